import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readCoordinatorConfig } from '../../coordinator/config.js';
import { ConfigError } from '../../shared/config.js';
import { readWorkerConfig } from '../../worker/config.js';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'lockstep-config-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

function fileOf(text: string): string {
  const path = join(folder, 'daemon.yaml');
  writeFileSync(path, text);
  return path;
}

describe('a configuration', () => {
  it('of a coordinator gets its defaults', () => {
    expect(readCoordinatorConfig(fileOf('name: c1\netcd: {endpoints: ["http://127.0.0.1:2379"]}'))).toEqual({
      name: 'c1',
      listen: '127.0.0.1:0',
      advertise: undefined,
      dashboard: undefined,
      etcd: { endpoints: ['http://127.0.0.1:2379'], prefix: '/lockstep' },
      leaseTtlSeconds: 3,
      dieWithParent: false,
      log: { level: 'info' },
      pricePerWorkerHour: 0,
      scheduling: { spares: 0, quota: Number.POSITIVE_INFINITY, quotas: new Map(), quarantineAfter: 5 },
    });
  });

  it('of a worker keeps what it is given, and is frozen', () => {
    const config = readWorkerConfig(
      fileOf(
        [
          'name: w1',
          'listen: 0.0.0.0:7001',
          'advertise: gpu-1.example:7001',
          'etcd: {endpoints: ["http://a:2379", "https://b:2379"], prefix: /team/lockstep}',
          'lease_ttl_seconds: 5',
          'python: /opt/venv/bin/python3',
          'gpu: 3',
          'same_host: false',
          'die_with_parent: true',
          'log: {level: debug}',
          'labels: {zone: a}',
          'cpus: 8',
          'gpus: 2',
          'engine: {user: lockstep-engine, memory_max: 64GiB, tasks_max: 500, file_max: 1TiB, scratch_max: 512MiB, scratch_dir: /scratch}',
        ].join('\n'),
      ),
    );
    expect(config).toEqual({
      name: 'w1',
      listen: '0.0.0.0:7001',
      advertise: 'gpu-1.example:7001',
      etcd: { endpoints: ['http://a:2379', 'https://b:2379'], prefix: '/team/lockstep' },
      leaseTtlSeconds: 5,
      python: '/opt/venv/bin/python3',
      gpu: 3,
      sameHost: false,
      dieWithParent: true,
      log: { level: 'debug' },
      labels: new Map([['zone', 'a']]),
      cpus: 8,
      gpus: 2,
      engine: {
        user: 'lockstep-engine',
        memoryMaxBytes: 64 * 2 ** 30,
        tasksMax: 500,
        fileMaxBytes: 2 ** 40,
        scratchDir: '/scratch',
        scratchMaxBytes: 512 * 2 ** 20,
      },
    });
    expect(Object.isFrozen(config)).toBe(true);
  });

  it.each([
    ['name: c 1\netcd: {endpoints: ["http://a:1"]}', /daemon\.yaml:1: name: must be 1 to 63/],
    ['name: c1', /etcd: is missing/],
    ['name: ""\netcd: {endpoints: ["http://a:1"]}', /daemon\.yaml:1: name: must be 1 to 63/],
    ['name: c1\netcd: {endpoints: []}', /daemon\.yaml:2: etcd\.endpoints: must name one/],
    ['name: c1\netcd: {endpoints: [127.0.0.1]}', /etcd\.endpoints\[0\]: must be a URL/],
    ['name: c1\netcd: {endpoints: ["http://a:1"], prefix: lockstep}', /etcd\.prefix: must be a path/],
    ['name: c1\netcd: {endpoints: ["http://a:1"]}\nlisten: 70000', /daemon\.yaml:3: listen: must be host:port/],
    ['name: c1\netcd: {endpoints: ["http://a:1"]}\nlisten: a:65536', /listen: must be host:port, not "a:65536"/],
    ['name: c1\netcd: {endpoints: ["http://a:1"]}\ndashboard: 8090', /dashboard: must be host:port/],
    [
      'name: c1\netcd: {endpoints: ["http://a:1"]}\nlease_ttl_second: 3',
      /lease_ttl_second: is not a known key; did you mean lease_ttl_seconds/,
    ],
    [
      'name: c1\netcd: {endpoints: ["http://a:1"]}\nlog: {level: loud}',
      /log\.level: must be error or warn or info or debug/,
    ],
    [': [', /daemon\.yaml(:\d+)?: is not valid/],
  ])('is refused: %j', (text, message) => {
    expect(() => readCoordinatorConfig(fileOf(text))).toThrow(message);
    expect(() => readCoordinatorConfig(fileOf(text))).toThrow(ConfigError);
  });

  it('of a coordinator keeps what it says of scheduling and prices', () => {
    const text =
      'name: c1\netcd: {endpoints: ["http://a:1"]}\nprice_per_worker_hour: 2.5\n' +
      'scheduling: {spares: 1, quota: 16, quotas: {ann: 32}, quarantine_after: 0}';
    expect(readCoordinatorConfig(fileOf(text))).toMatchObject({
      pricePerWorkerHour: 2.5,
      scheduling: { spares: 1, quota: 16, quotas: new Map([['ann', 32]]), quarantineAfter: 0 },
    });
  });

  it.each([
    ['labels: {"a b": c}', /labels\."a b": is no label/],
    ['labels: {zone: [a]}', /labels\.zone: must be 1 to 63/],
    ['engine: {user: "a b"}', /engine\.user: must be the name of a user of this machine, not "a b"/],
    [
      'engine: {memory_max: 64G}',
      /engine\.memory_max: must be a whole number of MiB, GiB or TiB, such as 64GiB, not "64G"/,
    ],
    ['engine: {memory_max: 64}', /engine\.memory_max: must be a whole number of MiB/],
    ['engine: {tasks_max: 3}', /engine\.tasks_max: must be a whole number from 16/],
    ['engine: {memory: 1GiB}', /engine\.memory: is not a known key; the known keys are user, memory_max/],
  ])('of a worker is refused: %j', (line, message) => {
    expect(() => readWorkerConfig(fileOf(`name: w1\netcd: {endpoints: ["http://a:1"]}\n${line}`))).toThrow(message);
  });

  it('that is not there is refused', () => {
    expect(() => readWorkerConfig(join(folder, 'no.yaml'))).toThrow(/no\.yaml: cannot be read/);
  });
});
