/** Those who come to a cluster while others crowd its ports: a worker that has never been there, and somebody with a command. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import { validForDays } from '../../shared/certificates/authority.js';
import { makeCertificate } from '../../shared/certificates/make.js';
import { credentialFilesOf } from '../../shared/identity/credential_files.js';
import type { FaultCluster } from '../faults/fault_cluster.js';
import { repository } from '../faults/repository.js';
import { until } from '../faults/until.js';
import type { Address } from './deliver.js';

const COME_MS = 20_000;
const COMMAND_MS = 15_000;
const NAME = 'w7';
const config = z.looseObject({ name: z.string(), code_dir: z.string() });

/** With the configuration of the first worker, but for its name. */
export async function startNewcomer(cluster: FaultCluster): Promise<ChildProcess> {
  const like = config.parse(parse(readFileSync(join(cluster.folder, 'w1.yaml'), 'utf8')));
  const tls = existsSync(cluster.tlsFolder) ? { tls: await ownCertificate(cluster) } : {};
  const path = join(cluster.folder, `${NAME}.yaml`);
  writeFileSync(path, stringify({ ...like, ...tls, name: NAME, code_dir: join(cluster.folder, 'code', NAME) }));
  const main = join(repository, 'dist/worker/main.js');
  const child = spawn(process.execPath, [main, '--config', path], { stdio: ['ignore', 'ignore', 'inherit'] });
  const look = async (): Promise<boolean> => (await cluster.client.nodes()).some(({ worker }) => worker === NAME);
  await until(look, { limitMs: COME_MS, what: 'a new worker', everyMs: 100 });
  return child;
}

async function ownCertificate({ tlsFolder }: FaultCluster) {
  const folder = join(tlsFolder, `worker-${NAME}`);
  const subject = { kind: 'identity', identity: { role: 'worker', name: NAME } } as const;
  await makeCertificate(tlsFolder, folder, subject, validForDays(1));
  return credentialFilesOf(folder);
}

export async function leave(child: ChildProcess): Promise<void> {
  const gone = once(child, 'exit');
  child.kill('SIGTERM');
  await gone;
}

/** Milliseconds that `lockstep nodes` took. Throws if it fails. */
export async function command({ tlsFolder }: FaultCluster, { host, port }: Address): Promise<number> {
  const tls = existsSync(tlsFolder) ? ['--tls-dir', join(tlsFolder, 'user-admin')] : [];
  const args = [join(repository, 'bin/lockstep'), 'nodes', '--json', '--server', `${host}:${port}`, ...tls];
  const startMs = performance.now();
  const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: COMMAND_MS });
  if (!stdout.includes(`"worker":"${NAME}"`)) throw new Error(`the command does not see ${NAME}: ${stdout}`);
  return performance.now() - startMs;
}
