/** The code of a job on machines that do not see the folder in which it was written. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { nanoid } from 'nanoid';
import { pack } from 'tar-stream';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import { CliError } from '../../cli/exit_codes.js';
import { JobsClient } from '../../cli/jobs_client.js';
import { sha256Of } from '../../shared/bundle/pack.js';
import { packedReference } from '../../shared/bundle/reference.js';
import { bytesOf } from '../../shared/bundle/stream_bytes.js';
import { connectEtcd } from '../../shared/etcd/client.js';
import { bundlePiecesFolder, bundlesFolder } from '../../shared/etcd/keys.js';
import { readLeader } from '../../shared/etcd/leader_watch.js';
import { readJobFile } from '../../shared/job_file.js';
import { type Cluster, startCluster, submit, watchToEnd } from './cluster.js';
import { jobFolder } from './job_folder.js';
import { newFolder, repository, runToEnd, TEST_MS } from './run_lockstep.js';

const task = `
import os
import lockstep
import torch
from slope import SLOPE

HERE = os.path.dirname(os.path.realpath(__file__))

class Line(lockstep.Task):
    def model(self):
        print("code in", HERE, "mode", oct(os.stat(HERE).st_mode & 0o777))
        return torch.nn.Linear(1, 1)
    def dataset(self):
        with open(os.path.join(HERE, "data", "offset.txt")) as file:
            offset = float(file.read())
        x = torch.linspace(-1, 1, 96).reshape(-1, 1)
        return torch.utils.data.TensorDataset(x, SLOPE * x + offset)
    def loss(self, model, batch):
        return torch.nn.functional.mse_loss(model(batch[0]), batch[1])
    def optimizer(self, model):
        return torch.optim.SGD(model.parameters(), lr=0.3)
`;

const folder = newFolder();
let cluster: Cluster;
let client: JobsClient;
let joined: ChildProcess | undefined;
beforeAll(async () => {
  cluster = await startCluster(1, ['--coordinators', '2']);
  client = new JobsClient({ servers: [cluster.api], signal: new AbortController().signal });
}, TEST_MS);
afterAll(async () => {
  client?.close();
  joined?.kill('SIGKILL');
  await cluster?.lockstep.close();
  rmSync(folder, { recursive: true });
});

function write(name: string, changes: Readonly<Record<string, unknown>> = {}): string {
  const job = join(folder, name);
  const path = jobFolder(
    job,
    [],
  )({
    ...{ name, task: 'task.py:Line', steps: 8, batch: 12, microbatches: 4, ...changes },
  });
  mkdirSync(join(job, 'data'));
  writeFileSync(join(job, 'task.py'), task);
  writeFileSync(join(job, 'slope.py'), 'SLOPE = 3\n');
  writeFileSync(join(job, 'data/offset.txt'), '1');
  writeFileSync(join(job, '.gitignore'), '*.log\n');
  writeFileSync(join(job, 'huge.log'), Buffer.alloc(70 * 1024 * 1024));
  return path;
}

function codeOf(worker: string): readonly string[] {
  const root = join(cluster.lockstep.folder, 'run/code', worker);
  return existsSync(root) ? readdirSync(root) : [];
}

const etcdConfig = z.object({ etcd: z.object({ endpoints: z.string().array(), prefix: z.string() }) });

function etcd() {
  const config = etcdConfig.parse(parse(readFileSync(join(cluster.lockstep.folder, 'run/w1.yaml'), 'utf8')));
  const { endpoints, prefix } = config.etcd;
  return connectEtcd({ endpoints, prefix: `${prefix}/`, callTimeoutMs: 2000 });
}

async function keys(prefix: string): Promise<readonly string[]> {
  const store = etcd();
  try {
    return (await store.list({ kind: 'prefix', prefix })).entries.map(({ key }) => key);
  } finally {
    store.close();
  }
}

/** A worker on another machine: what it shares with the others is etcd and nothing else. */
function join2(): void {
  const path = join(folder, 'w2.yaml');
  const config: unknown = parse(readFileSync(join(cluster.lockstep.folder, 'run/w1.yaml'), 'utf8'));
  const own = { name: 'w2', code_dir: join(cluster.lockstep.folder, 'run/code/w2') };
  writeFileSync(path, stringify({ ...z.looseObject({}).parse(config), ...own }));
  joined = spawn('setpriv', ['--pdeathsig', 'KILL', process.execPath, 'dist/worker/main.js', '--config', path], {
    cwd: repository,
    stdio: 'ignore',
  });
}

/** Kills the leading coordinator and waits for the other one. */
async function changeLeader(): Promise<void> {
  const store = etcd();
  const before = await readLeader(store);
  const pids = (await cluster.lockstep.ready()).pids.coordinators;
  process.kill(pids[Number(before?.name.slice(1)) - 1] ?? 0, 'SIGKILL');
  await cluster.lockstep.until('another leader', async () => {
    const now = await readLeader(store).catch(() => undefined);
    return now !== undefined && now.term > (before?.term ?? 0) ? now : undefined;
  });
  store.close();
}

it(
  'a job trains where its folder is gone, under a leader that did not take its code, on a worker that came later, to the same weights',
  async () => {
    const shared = await runToEnd(['submit', write('shared'), '--shared-folder', '--json', '--server', cluster.api]);
    expect(shared.end.code).toBe(0);
    const reference = await watchToEnd(cluster, 'shared');
    expect(reference.finished.state).toBe('finished');

    const waiting = await submit(cluster, write('travels', { workers: { min: 2 } }), 'travels');
    rmSync(join(folder, 'travels'), { recursive: true });
    expect((await client.get(waiting)).state).toBe('queued');
    await changeLeader();
    join2();
    const { finished } = await watchToEnd(cluster, waiting);
    expect(finished).toMatchObject({ state: 'finished', weights_digest: reference.finished.weights_digest });

    const logs = await runToEnd(['logs', waiting, '--server', cluster.api]);
    for (const worker of ['w1', 'w2']) {
      expect(logs.end.stdout).toMatch(new RegExp(`code in .*/run/code/${worker}/code-\\d+ mode 0o700`));
    }
    await cluster.lockstep.until('the end of the code', () =>
      codeOf('w1').length + codeOf('w2').length === 0 ? true : undefined,
    );
  },
  TEST_MS,
);

it(
  'the same content is stored once, whatever it is called, and a job goes on from its checkpoint with it',
  async () => {
    const before = await keys(bundlesFolder);
    const long = write('long', { steps: 100_000, checkpoint: { every: 5 } });
    const job = await submit(cluster, long, 'long');
    const stored = await keys(bundlesFolder);
    expect(stored).toHaveLength(before.length + 1);
    const again = await submit(cluster, long, 'again');
    expect(await keys(bundlesFolder)).toEqual(stored);
    expect(await keys(bundlePiecesFolder)).toHaveLength(stored.length);
    await client.cancel(again);
    rmSync(join(folder, 'long'), { recursive: true });

    await cluster.lockstep.until('a checkpoint', async () =>
      (await client.get(job)).checkpoint === undefined ? undefined : true,
    );
    await client.cancel(job);
    const resumed = await client.resume({ operationId: nanoid(), job });
    await cluster.lockstep.until('steps of the resumed job', async () => {
      const now = await client.get(resumed);
      const from = now.checkpoint ?? 0;
      return now.state === 'running' && now.committed > from ? true : undefined;
    });
    expect((await client.get(resumed)).bundle).toBe((await client.get(job)).bundle);
    await client.cancel(resumed);
  },
  TEST_MS,
);

it(
  'an archive with a name that leads out fails its job with that name, and nothing is written',
  async () => {
    const tar = pack();
    tar.entry({ name: 'task.py' }, task);
    tar.entry({ name: '../../evil.py' }, 'evil');
    tar.finalize();
    const archive = gzipSync(await bytesOf(tar));
    const digest = sha256Of(archive);
    const { spec } = readJobFile(write('evil'));
    await client.upload({ sha256: digest, archive }, spec);
    const request = { operationId: nanoid(), spec, output: join(folder, 'm'), checkpoints: join(folder, 'c') };
    const job = await client.submit({ ...request, bundle: packedReference(digest) });
    const { end, finished } = await watchToEnd(cluster, job);
    expect(end.code).toBe(1);
    expect(finished.reason).toMatch(/^code failed on w\d: "\.\.\/\.\.\/evil\.py" leads out of the folder with "\.\."$/);
    const written = readdirSync(join(cluster.lockstep.folder, 'run'), { recursive: true }).map(String);
    expect(written.filter((name) => name.endsWith('evil.py'))).toEqual([]);
  },
  TEST_MS,
);

it(
  'a job whose code was never uploaded whole is not accepted',
  async () => {
    const { spec } = readJobFile(write('nothing'));
    const request = { operationId: nanoid(), spec, output: join(folder, 'm'), checkpoints: join(folder, 'c') };
    const refused = client.submit({ ...request, bundle: packedReference('0'.repeat(64)) });
    await expect(refused).rejects.toThrow(CliError);
    await expect(refused).rejects.toThrow(/the code is not kept, or not whole/);
    await expect(client.submit({ ...request, bundle: 'relative/path' })).rejects.toThrow(/must be an absolute path/);
  },
  TEST_MS,
);

it(
  'a folder that is too large is refused in one line, and nothing starts',
  async () => {
    const path = write('large');
    rmSync(join(folder, 'large/.gitignore'));
    const { end } = await runToEnd(['run', path, '--dir', '{folder}/run', '--json']);
    expect(end.code).toBe(2);
    expect(end.stderr).toMatch(/^lockstep: .*the largest files are "huge\.log" \(70\.0 MiB\)[^\n]*--shared-folder\n$/);
  },
  TEST_MS,
);
