import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readCoordinatorConfig } from '../../coordinator/config.js';
import { ConfigError } from '../../shared/config.js';
import { readWorkerConfig } from '../../worker/config.js';

const TLS = 'tls: {ca: a, certificate: b, key: c}';
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
          'tls: {ca: /c/ca.pem, certificate: cert.pem, key: key.pem}',
          'etcd: {endpoints: ["https://a:2379", "https://b:2379"], prefix: /team/lockstep}',
          'lease_ttl_seconds: 5',
          'python: /opt/venv/bin/python3',
          'gpu: 3',
          'same_host: false',
          'die_with_parent: true',
          'preflight: false',
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
      tls: { ca: '/c/ca.pem', certificate: 'cert.pem', key: 'key.pem' },
      etcd: { endpoints: ['https://a:2379', 'https://b:2379'], prefix: '/team/lockstep' },
      leaseTtlSeconds: 5,
      python: '/opt/venv/bin/python3',
      gpu: 3,
      sameHost: false,
      dieWithParent: true,
      preflight: false,
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

  it.each([
    ['listen: 0.0.0.0:7400', 'listen', 'while there is no tls section'],
    ['listen: "[::]:7400"', 'listen', 'while there is no tls section'],
    ['advertise: gpu-1:7400', 'advertise', 'while there is no tls section'],
    ['dashboard: 10.0.0.1:8090', 'dashboard', 'certificates do not protect it'],
    [`dashboard: 10.0.0.1:8090\n${TLS}`, 'dashboard', 'certificates do not protect it'],
  ])('without certificates keeps to its own machine: %j', (lines, key, why) => {
    const text = `name: c1\netcd: {endpoints: ["http://127.0.0.1:1"]}\n${lines}`;
    const message = `daemon.yaml:3: ${key}: must be a loopback address such as 127.0.0.1`;
    expect(() => readCoordinatorConfig(fileOf(text))).toThrow(message);
    expect(() => readCoordinatorConfig(fileOf(text))).toThrow(why);
    expect(readCoordinatorConfig(fileOf(`${text}\nopen_to_network: true`)).name).toBe('c1');
  });

  it('of a worker without certificates keeps to its own machine, too', () => {
    const text = 'name: w1\netcd: {endpoints: ["http://a:1"]}\nlisten: 10.0.0.1:0';
    expect(() => readWorkerConfig(fileOf(text))).toThrow(/listen: must be a loopback address/);
    expect(readWorkerConfig(fileOf(`${text}\nopen_to_network: true`)).listen).toBe('10.0.0.1:0');
    expect(
      readWorkerConfig(fileOf(`name: w1\netcd: {endpoints: ["https://a:1"]}\nlisten: 10.0.0.1:0\n${TLS}`)).tls,
    ).toBeDefined();
  });

  it('with certificates speaks to no etcd elsewhere without them', () => {
    const text = (url: string) => `name: c1\netcd: {endpoints: ["https://a:1", "${url}"]}\n${TLS}`;
    expect(() => readCoordinatorConfig(fileOf(text('http://b:1')))).toThrow(
      'daemon.yaml:2: etcd.endpoints: must begin with https:// because there is a tls section: http://b:1',
    );
    expect(readCoordinatorConfig(fileOf(text('http://127.0.0.1:1'))).name).toBe('c1');
  });

  it('that lets machines join names the key of the authority', () => {
    const text = `name: c1\netcd: {endpoints: ["http://127.0.0.1:1"]}\njoin_listen: 0.0.0.0:7401\n`;
    expect(() => readCoordinatorConfig(fileOf(text))).toThrow(/daemon\.yaml:3: join_listen: needs tls\.ca_key/);
    expect(() => readCoordinatorConfig(fileOf(text + TLS))).toThrow(/join_listen: needs tls\.ca_key/);
    const tls = 'tls: {ca: a, certificate: b, key: c, ca_key: d}\naudit_log: /var/log/audit.log';
    expect(readCoordinatorConfig(fileOf(text + tls))).toMatchObject({
      joinListen: '0.0.0.0:7401',
      auditLog: '/var/log/audit.log',
      tls: { ca: 'a', certificate: 'b', key: 'c', caKey: 'd' },
    });
  });

  it.each([
    ['tls: {ca: a, key: c}', /tls\.certificate: is missing/],
    ['tls: {ca: a, certificate: b, key: c, cakey: d}', /tls\.cakey: is not a known key; did you mean ca_key/],
    ['audit_log: audit.log', /audit_log: must be an absolute path/],
    ['open_to_network: yes please', /open_to_network: must be true or false/],
  ])('of certificates is refused: %j', (line, message) => {
    expect(() => readCoordinatorConfig(fileOf(`name: c1\netcd: {endpoints: ["http://a:1"]}\n${line}`))).toThrow(
      message,
    );
  });

  it('that is not there is refused', () => {
    expect(() => readWorkerConfig(join(folder, 'no.yaml'))).toThrow(/no\.yaml: cannot be read/);
  });
});

describe('the dashboard of a coordinator', () => {
  const read = (dashboard: string) =>
    readCoordinatorConfig(fileOf(`name: c1\netcd: {endpoints: ["http://127.0.0.1:2379"]}\ndashboard: ${dashboard}\n`))
      .dashboard;

  it('is an address alone', () => {
    const nothing = { hosts: [], origins: [], tokens: undefined, proxy: undefined };
    expect(read('127.0.0.1:8090')).toEqual({ listen: '127.0.0.1:8090', ...nothing });
  });

  it('or a section', () => {
    const text =
      '{listen: "127.0.0.1:8090", hosts: [Lockstep.example], origins: ["https://lockstep.example"], tokens: /etc/t, ' +
      'proxy: {header: X-Forwarded-User, role_header: X-Role, from: [127.0.0.1, "10.0.0.0/8", "fd00::/8"]}}';
    expect(read(text)).toEqual({
      listen: '127.0.0.1:8090',
      hosts: ['lockstep.example'],
      origins: ['https://lockstep.example'],
      tokens: '/etc/t',
      proxy: { header: 'x-forwarded-user', roleHeader: 'x-role', from: ['127.0.0.1', '10.0.0.0/8', 'fd00::/8'] },
    });
  });

  it('finds a relative path of the tokens beside the configuration', () => {
    expect(read('{listen: "127.0.0.1:8090", tokens: secret/tokens}')?.tokens).toBe(join(folder, 'secret/tokens'));
  });

  it('may have a proxy that names nobody, where there are tokens', () => {
    const section = '{listen: "a:1", tokens: /etc/t, proxy: {from: [127.0.0.1]}}';
    expect(read(section)?.proxy).toEqual({ header: undefined, roleHeader: undefined, from: ['127.0.0.1'] });
  });

  it.each([
    ['everywhere', 'dashboard: must be host:port, or a map'],
    ['{listen: "a:1", proxy: {from: [127.0.0.1]}}', 'dashboard.proxy.header: is missing'],
    ['{listen: "a:1", tokens: /t, proxy: {role_header: X-Role, from: [::1]}}', 'dashboard.proxy.header: is missing'],
    ['[]', 'dashboard: must be a map with the keys listen'],
    ['{hosts: [a]}', 'dashboard.listen: is missing'],
    ['{listen: "a:1", hosts: ["a b"]}', 'dashboard.hosts[0]: must be a host'],
    ['{listen: "a:1", origins: [lockstep.example]}', 'dashboard.origins[0]: must be an origin'],
    ['{listen: "a:1", origins: ["https://a/path"]}', 'dashboard.origins[0]: must be an origin'],
    ['{listen: "a:1", tokens: ""}', 'dashboard.tokens: must be the path of a file'],
    ['{listen: "a:1", proxy: {header: X-User}}', 'dashboard.proxy.from: '],
    ['{listen: "a:1", proxy: {header: X-User, from: []}}', 'dashboard.proxy.from: must name one address at least'],
    ['{listen: "a:1", proxy: {header: X-User, from: ["10.0.0.0/33"]}}', 'dashboard.proxy.from[0]: must be an address'],
    ['{listen: "a:1", proxy: {header: "X User", from: [10.0.0.1]}}', 'dashboard.proxy.header: must be the name'],
    ['{listen: "a:1", token: x}', 'dashboard.token: is not a known key; did you mean tokens?'],
  ])('of %s is refused: %s', (dashboard, problem) => {
    expect(() => read(dashboard)).toThrow(problem);
  });
});
