/** All workers of the cluster. */
import type { JSX } from 'preact';
import type { JobRow, NodeRow, UsageRow } from '../../shared/wire/dashboard.js';
import type { ServiceAct } from '../parts/service_button.js';
import { Stat } from '../parts/stat.js';
import { WorkerHours } from '../parts/worker_hours.js';
import { WorkersTable } from '../parts/workers_table.js';

export interface NodesPageProps {
  readonly jobs: ReadonlyMap<string, JobRow>;
  readonly nodes: ReadonlyMap<string, NodeRow>;
  readonly usage: UsageRow | undefined;
  readonly live: boolean;
  /** Undefined where it is not for who looks. */
  readonly serve: ((act: ServiceAct) => Promise<string>) | undefined;
}

export function NodesPage({ jobs, nodes, usage, live, serve }: NodesPageProps): JSX.Element {
  const all = [...nodes.values()].sort((left, right) =>
    left.worker.localeCompare(right.worker, 'en', { numeric: true }),
  );
  const count = (state: NodeRow['state']): number => all.filter((node) => node.state === state).length;
  return (
    <>
      <h1>Workers</h1>
      <dl class="stats">
        <Stat name="Training">{count('training')}</Stat>
        <Stat name="Ready">{count('ready')}</Stat>
        <Stat name="Loading">{count('loading')}</Stat>
        <Stat name="Idle">{count('idle')}</Stat>
        <Stat name="Measuring">{count('measuring')}</Stat>
        <Stat name="Leaving">{count('leaving')}</Stat>
        <Stat name="Cordoned">{all.filter((node) => node.cordoned).length}</Stat>
        <Stat name="Slow">{all.filter((node) => node.slow).length}</Stat>
        <Stat name="Hosts">{new Set(all.map((node) => node.host)).size}</Stat>
      </dl>
      {all.length === 0 ? (
        <section class="panel">
          <h2>No workers</h2>
          <p>Start a worker daemon on each machine, or a whole cluster on this one:</p>
          <pre class="command">bin/lockstep up --workers 4</pre>
        </section>
      ) : (
        <section class="panel flush">
          <WorkersTable nodes={all} jobs={jobs} live={live} serve={serve} label="Workers of the cluster" />
        </section>
      )}
      {usage !== undefined && <WorkerHours usage={usage} />}
    </>
  );
}
