/** Where the worker-hours of the cluster went since its leader began. */
import type { JSX } from 'preact';
import { clusterClassesOf, costText, hoursText, totalOf } from '../../shared/text/worker_time.js';
import type { UsageRow } from '../../shared/wire/dashboard.js';
import { dateText, isoText } from '../figures.js';

export function WorkerHours({ usage }: { readonly usage: UsageRow }): JSX.Element | null {
  const classes = clusterClassesOf(usage);
  const total = totalOf(classes);
  const { sinceMs, pricePerWorkerHour, jobs } = usage;
  if (total === 0) return null;
  return (
    <section class="panel flush">
      <h2>
        Worker-hours{' '}
        <small class="muted">
          {hoursText(total)} since <span title={isoText(sinceMs)}>{dateText(sinceMs, Date.now())}</span>
          {pricePerWorkerHour > 0 && `, which cost ${costText(total, pricePerWorkerHour)}`}; jobs waited for{' '}
          {hoursText(jobs.queuedSeconds)} more
        </small>
      </h2>
      <div class="scroll">
        <table aria-label="Where the worker-hours went">
          <thead>
            <tr>
              <th scope="col">What for</th>
              <th scope="col" class="number">
                Hours
              </th>
              <th scope="col" class="number">
                Share
              </th>
            </tr>
          </thead>
          <tbody>
            {classes.map(({ name, seconds }) => (
              <tr key={name}>
                <td>{name}</td>
                <td class="number">{hoursText(seconds)}</td>
                <td class="number">{((100 * seconds) / total).toFixed(1)} %</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
