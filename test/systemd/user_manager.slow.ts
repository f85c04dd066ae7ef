/**
 * The life of the daemons under the service manager of a user, which gives them no user of their own, no sandbox, and no control group that
 * it says it has handed over. Needs root, to make the machine.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, it } from 'vitest';
import { stringify } from 'yaml';
import { jobFolder, ownTask } from '../system/job_folder.js';
import { buildPackage, Client, install } from './installed.js';
import { bothWorkers, survivesEverything, WORKERS } from './life.js';
import { Machine, newSharedFolder } from './machine.js';

const WATCHDOG_SECONDS = 3;
const STEPS = 1200;
/** What of a unit is about the life of its daemon, and not about its sandbox. */
const KEPT =
  /^(\[|$|#|Description|Type|ExecStart|Slice|Restart|Timeout|KillMode|Delegate|OOMPolicy|TasksMax|(State|Runtime|Cache)Directory=|Limit|StartLimit|WantedBy)/;

const shared = newSharedFolder();
let machine: Machine;
let client: Client;

async function installForUser(unit: string): Promise<void> {
  const text = await machine.must('cat', `/lib/systemd/system/${unit}.service`);
  const lines = text.split('\n').filter((line) => KEPT.test(line));
  const watched = lines.flatMap((line) =>
    line === 'Type=notify' ? [line, `WatchdogSec=${WATCHDOG_SECONDS}`] : [line],
  );
  const kept = unit === 'lockstep-etcd' ? lines : watched;
  await machine.write(`/root/.config/systemd/user/${unit}.service`, kept.join('\n'));
}

beforeAll(async () => {
  machine = await Machine.boot({ name: 'user', shared, manager: 'user' });
  await install(machine, buildPackage(join(shared, 'package')));
  for (const unit of ['lockstep-etcd', 'lockstep-coordinator', 'lockstep-worker', 'lockstep-worker@']) {
    await installForUser(unit);
  }
  await machine.must('mkdir', '-p', '/var/lib/lockstep-etcd');
  const etcd = { endpoints: ['http://127.0.0.1:2379'] };
  await machine.write('/etc/lockstep/worker.yaml', stringify({ name: 'w1', listen: '127.0.0.1:7001', etcd }));
  await machine.write('/etc/lockstep/worker@2.yaml', stringify({ name: 'w2', listen: '127.0.0.1:7002', etcd }));
  await machine.systemctl('daemon-reload');
  await machine.systemctl('start', 'lockstep-etcd', 'lockstep-coordinator', ...WORKERS);
  client = new Client(machine, '127.0.0.1:7000');
  await bothWorkers({ client });
});
afterAll(async () => {
  await machine?.close();
  rmSync(shared, { recursive: true, force: true });
});

it('a job survives frozen daemons, SIGKILL, a stop that drains and a restart of everything, with its digest', async () => {
  const line = jobFolder(join(shared, 'line'), [ownTask('line')]);
  const job = { task: 'line.py:Line', steps: STEPS, batch: 12, microbatches: 4 };
  const calm = line({ ...job, name: 'calm', params: { helper: true } });
  const slow = line({ ...job, name: 'slow', params: { pause: 0.02, helper: true } });
  await survivesEverything({ machine, client, calm, slow, models: '/root/models', delegates: false });
});
