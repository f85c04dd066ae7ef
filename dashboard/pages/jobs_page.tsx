/** All jobs: what runs, what waits and for what, what has ended. */
import type { JSX } from 'preact';
import type { JobRow, NodeRow } from '../../shared/wire/dashboard.js';
import { countText, dateText, isoText, lossText, rateText, secondsText } from '../figures.js';
import { ProgressBar } from '../parts/progress_bar.js';
import { Stat } from '../parts/stat.js';
import { StateBadge } from '../parts/state_badge.js';
import { jobAddress } from '../route.js';

export interface JobsPageProps {
  readonly jobs: ReadonlyMap<string, JobRow>;
  readonly nodes: ReadonlyMap<string, NodeRow>;
}

const ORDER: Readonly<Record<JobRow['state'], number>> = {
  running: 0,
  queued: 1,
  finished: 2,
  failed: 2,
  cancelled: 2,
};

/** Running, then the queue, the most important and then the oldest first, then what has ended, the newest first. */
function inOrder(jobs: Iterable<JobRow>): readonly JobRow[] {
  return [...jobs].sort((left, right) => {
    const by = ORDER[left.state] - ORDER[right.state];
    if (by !== 0) return by;
    if (left.state === 'queued' && left.priority !== right.priority) return right.priority - left.priority;
    const age = left.submittedMs - right.submittedMs;
    return ORDER[left.state] === 2 ? -age : age;
  });
}

export function JobsPage({ jobs, nodes }: JobsPageProps): JSX.Element {
  const rows = inOrder(jobs.values());
  const queued = rows.filter((row) => row.state === 'queued').length;
  const running = rows.filter((row) => row.state === 'running').length;
  const training = [...nodes.values()].filter((node) => node.state === 'training').length;
  return (
    <>
      <h1>Jobs</h1>
      <dl class="stats">
        <Stat name="Running">{running}</Stat>
        <Stat name="Queued">{queued}</Stat>
        <Stat name="Ended">{rows.length - running - queued}</Stat>
        <Stat name="Workers training" note={`of ${nodes.size}`}>
          {training}
        </Stat>
      </dl>
      {rows.length === 0 ? <NoJobs /> : <JobsTable rows={rows} />}
    </>
  );
}

function NoJobs(): JSX.Element {
  return (
    <section class="panel">
      <h2>No jobs yet</h2>
      <p>Describe one in a YAML file and submit it; it appears here at once:</p>
      <pre class="command">bin/lockstep submit job.yaml</pre>
      <p class="hint">
        <code>examples/char_gpt/job.yaml</code> is one to begin with.
      </p>
    </section>
  );
}

function JobsTable({ rows }: { readonly rows: readonly JobRow[] }): JSX.Element {
  const nowMs = Date.now();
  return (
    <section class="panel flush">
      <div class="scroll">
        <table aria-label="Jobs" class="jobs">
          <thead>
            <tr>
              <th scope="col">Job</th>
              <th scope="col">State</th>
              <th scope="col">Progress</th>
              <th scope="col" class="number">
                Loss
              </th>
              <th scope="col" class="number wide">
                Steps/s
              </th>
              <th scope="col" class="number middling">
                Left
              </th>
              <th scope="col" class="number wide">
                Workers
              </th>
              <th scope="col" class="wide">
                Submitted
              </th>
            </tr>
          </thead>
          <tbody>
            {rows.map((row) => (
              <tr key={row.job}>
                <th scope="row">
                  <a href={jobAddress(row.job)}>{row.name}</a>
                  <span class="id wide">
                    {row.user} {row.job}
                  </span>
                </th>
                <td>
                  <StateBadge state={row.state} />
                  {row.priority !== 0 && <span class="muted place">priority {row.priority}</span>}
                </td>
                <td class="progress">
                  <ProgressBar committed={row.committed} steps={row.steps} />
                  <span class="figure">
                    {countText(row.committed)} / {row.steps === 0 ? '?' : countText(row.steps)}
                  </span>
                  {row.reason !== '' && <span class="reason">{row.reason}</span>}
                </td>
                <td class="number">{lossText(row.loss)}</td>
                <td class="number wide">{rateText(row.stepsPerSecond)}</td>
                <td class="number middling">{secondsText(row.secondsLeft)}</td>
                <td class="number wide">{row.state === 'running' ? row.workers : ''}</td>
                <td class="wide" title={isoText(row.submittedMs)}>
                  {dateText(row.submittedMs, nowMs)}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
