/** A real coordinator with a file of tokens, as a cluster that many people share has it, and one worker. */
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { stringify } from 'yaml';
import { z } from 'zod';
import { SupervisedProcess } from '../../cli/supervised_process.js';
import type { UserRole } from '../../shared/role.js';
import { type EtcdServer, freePort, startEtcd } from '../etcd_server.js';
import { nodesOf, repository, runToEnd } from '../system/run_lockstep.js';

const START_MS = 60_000;
const GRACE_MS = 5_000;

const tokenEvent = z.object({ event: z.literal('token'), token: z.string(), line: z.string() });
const submittedEvent = z.object({ event: z.literal('submitted'), job: z.string() });

export class SharedCluster {
  readonly #folder = mkdtempSync(join(tmpdir(), 'lockstep-shared-'));
  readonly #daemons: SupervisedProcess[] = [];
  #etcd: EtcdServer | undefined;
  #gatePort = 0;
  #pagePort = 0;

  /** close() must be called, whatever comes of it. */
  async start(): Promise<void> {
    this.#etcd = await startEtcd();
    this.#gatePort = await freePort();
    this.#pagePort = await freePort();
    writeFileSync(this.#tokensPath, '', { mode: 0o600 });
    this.#startDaemon('coordinator', 'c1', {
      listen: this.api,
      dashboard: { listen: `127.0.0.1:${this.#pagePort}`, tokens: this.#tokensPath },
      audit_log: this.#auditPath,
      lease_ttl_seconds: 3,
    });
    this.#startDaemon('worker', 'w1', {
      listen: '127.0.0.1:0',
      python: readFileSync(join(repository, 'dist/.python'), 'utf8').trim(),
      code_dir: join(this.#folder, 'code'),
      preflight: false,
    });
    const untilMs = performance.now() + START_MS;
    while ((await nodesOf(this.api).catch(() => [])).length === 0) {
      if (performance.now() > untilMs) throw new Error(`the worker did not come: ${this.#logs()}`);
      await delay(100);
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#daemons.map((daemon) => daemon.stop(GRACE_MS)));
    await this.#etcd?.stop();
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 3 });
  }

  /** host:port of the coordinator. */
  get api(): string {
    return `127.0.0.1:${this.#gatePort}`;
  }

  get dashboard(): string {
    return `http://127.0.0.1:${this.#pagePort}`;
  }

  /** Lets somebody in, as `lockstep token` says, and returns the token. */
  async letIn(name: string, role: UserRole): Promise<string> {
    const { end } = await runToEnd(['token', name, '--role', role, '--json']);
    const { token, line } = tokenEvent.parse(JSON.parse(end.stdout));
    appendFileSync(this.#tokensPath, `${line}\n`);
    return token;
  }

  /** Takes somebody out of the file of tokens. */
  takeOut(name: string): void {
    const lines = readFileSync(this.#tokensPath, 'utf8').split('\n');
    writeFileSync(this.#tokensPath, lines.filter((line) => !line.startsWith(`${name} `)).join('\n'));
  }

  /** Submits a job in somebody's name, and returns its id. */
  async submitAs(user: string, job: string): Promise<string> {
    const output = join(this.#folder, 'models', user);
    const args = ['submit', job, '--output', output, '--json', '--server', this.api];
    const { end } = await runToEnd(args, { LOCKSTEP_USER: user });
    if (end.code !== 0) throw new Error(`submit ended with ${end.code}: ${end.stderr}`);
    return submittedEvent.parse(JSON.parse(end.stdout)).job;
  }

  /** Lines of the audit log that are about the pages: who, what, on what, what came of it. */
  audited(): readonly string[] {
    const entry = z.object({
      who: z.string(),
      call: z.string(),
      on: z.record(z.string(), z.string()),
      outcome: z.string(),
    });
    return readFileSync(this.#auditPath, 'utf8')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => entry.parse(JSON.parse(line)))
      .filter(({ call }) => call.startsWith('dashboard '))
      .map(({ who, call, on, outcome }) => [who, call, ...Object.values(on), outcome].join(', '));
  }

  get #tokensPath(): string {
    return join(this.#folder, 'tokens');
  }

  get #auditPath(): string {
    return join(this.#folder, 'audit.log');
  }

  #startDaemon(daemon: string, name: string, settings: Readonly<Record<string, unknown>>): void {
    const path = join(this.#folder, `${name}.yaml`);
    const etcd = { endpoints: [this.#etcd?.endpoint], prefix: '/lockstep' };
    writeFileSync(path, stringify({ name, etcd, die_with_parent: true, ...settings }));
    this.#daemons.push(
      new SupervisedProcess({
        name,
        command: process.execPath,
        args: [join(repository, 'dist', daemon, 'main.js'), '--config', path],
        environment: process.env,
        logPath: join(this.#folder, `${name}.log`),
        onExit: () => undefined,
      }),
    );
  }

  #logs(): string {
    return this.#daemons.map(({ logPath }) => readFileSync(logPath, 'utf8').slice(-1_500)).join('\n');
  }
}
