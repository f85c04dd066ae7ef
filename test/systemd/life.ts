/** What a job has to survive when its daemons run under a service manager: the same under the system's and under a user's. */
import { expect } from 'vitest';
import { type Client, type Shown, until } from './installed.js';
import type { Machine } from './machine.js';

const UP_MS = 30_000;
const JOB_MS = 240_000;
const STEPS_BETWEEN = 20;
export const WORKERS = ['lockstep-worker', 'lockstep-worker@2'];

export interface Life {
  readonly machine: Machine;
  readonly client: Client;
  /** Job files with the same arithmetic, one of them slow enough to interfere. */
  readonly calm: string;
  readonly slow: string;
  /** Folder of the machine for models. */
  readonly models: string;
  /** The service manager hands control groups over to the daemons. */
  readonly delegates: boolean;
}

export async function bothWorkers({ client }: Pick<Life, 'client'>): Promise<void> {
  await until('both workers', UP_MS, async () => (await client.workers()).join() === 'w1,w2');
}

/** Waits for the daemon that the service manager starts in the place of this one. */
export async function untilAgain({ machine }: Pick<Life, 'machine'>, unit: string, before: number): Promise<void> {
  await until(`another ${unit}`, UP_MS, async () => {
    const pid = await machine.mainPid(unit);
    return pid !== 0 && pid !== before && (await machine.show(unit, 'ActiveState')) === 'active';
  });
}

/** Nothing but the watchdog ends a frozen process. */
async function freeze(life: Life, unit: string): Promise<void> {
  const { machine } = life;
  const restarts = Number(await machine.show(unit, 'NRestarts'));
  const frozen = await machine.mainPid(unit);
  await machine.must('kill', '-STOP', String(frozen));
  await untilAgain(life, unit, frozen);
  expect(Number(await machine.show(unit, 'NRestarts'))).toBe(restarts + 1);
}

async function kill(life: Life, unit: string): Promise<void> {
  const killed = await life.machine.mainPid(unit);
  await life.machine.must('kill', '-KILL', String(killed));
  await untilAgain(life, unit, killed);
}

/** Each worker has opened the other's memory; engines are in control groups of their own, below those of their units. */
async function lookAtEngines({ machine, delegates }: Life): Promise<void> {
  for (const unit of WORKERS) {
    const group = `/sys/fs/cgroup${await machine.show(unit, 'ControlGroup')}`;
    const engines = await machine.must('sh', '-c', `cat ${group}/${delegates ? 'engine-*/' : ''}cgroup.procs`);
    // The engine, and the helper that its task has started; the daemon is elsewhere, or with them.
    expect(engines.trim().split('\n')).toHaveLength(delegates ? 2 : 3);
    const descriptors = await machine.must('sh', '-c', `ls -l /proc/${await machine.mainPid(unit)}/fd`);
    expect(descriptors.match(/memfd:lockstep-exchange/g)).toHaveLength(2);
  }
}

/** It hands over, and nothing of it is left. */
async function stop({ machine, client }: Life): Promise<void> {
  const group = `/sys/fs/cgroup${await machine.show('lockstep-worker', 'ControlGroup')}`;
  const pid = await machine.mainPid('lockstep-worker');
  const environment = await machine.must('sh', '-c', `tr '\\0' '\\n' </proc/${pid}/environ`);
  const folder = (name: string) => new RegExp(`^${name}=(.+)$`, 'm').exec(environment)?.[1] ?? '';
  expect((await machine.systemctl('stop', 'lockstep-worker')).code).toBe(0);
  expect(await machine.show('lockstep-worker', 'Result')).toBe('success');
  expect((await machine.run('ls', group)).code).not.toBe(0);
  expect((await machine.run('ls', folder('RUNTIME_DIRECTORY'))).code).not.toBe(0);
  expect(await machine.must('ls', '-A', folder('CACHE_DIRECTORY'))).toBe('');
  expect(await client.workers()).toEqual(['w2']);
}

export async function survivesEverything(life: Life): Promise<void> {
  const { machine, client, calm, slow, models } = life;
  const undisturbed = await client.untilEnd(await client.submit(calm, `${models}/calm`), JOB_MS);
  expect(undisturbed).toMatchObject({ state: 'finished', weights_digest: expect.stringMatching(/^[0-9a-f]{64}$/) });

  const job = await client.submit(slow, `${models}/slow`);
  let now: Shown = await client.untilStep(job, STEPS_BETWEEN);
  const goesOn = async (): Promise<void> => {
    now = await client.untilStep(job, (now.committed ?? 0) + STEPS_BETWEEN);
    expect(now.state).toBe('running');
  };
  await lookAtEngines(life);
  await freeze(life, 'lockstep-worker');
  await bothWorkers(life);
  await goesOn();
  await freeze(life, 'lockstep-coordinator');
  await goesOn();
  await kill(life, 'lockstep-worker@2');
  await bothWorkers(life);
  await goesOn();
  await stop(life);
  await goesOn();
  await machine.systemctl('start', 'lockstep-worker');
  await bothWorkers(life);
  for (const unit of ['lockstep-etcd', 'lockstep-coordinator', ...WORKERS]) {
    expect((await machine.systemctl('restart', unit)).code).toBe(0);
    await bothWorkers(life);
    await goesOn();
  }
  const end = await client.untilEnd(job, JOB_MS);
  expect(end).toMatchObject({ state: 'finished', weights_digest: undisturbed.weights_digest });
  const { out } = await client.lockstep('audit', job, '--json');
  expect(out).toContain('"samples_lost":0,"samples_repeated":0');
}
