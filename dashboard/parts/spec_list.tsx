import type { JSX } from 'preact';
import { classesOf, costText, hoursText, sharesText } from '../../shared/text/worker_time.js';
import type { JobDetail } from '../../shared/wire/dashboard.js';
import { countText, UNKNOWN } from '../figures.js';
import { jobAddress } from '../route.js';

/** What the job is, and where its files lie. */
export function SpecList({ job, detail }: { readonly job: string; readonly detail: JobDetail }): JSX.Element {
  const known = (count: number | null): string => (count === null ? UNKNOWN : countText(count));
  return (
    <dl class="spec">
      <dt>Id</dt>
      <dd class="mono">{job}</dd>
      <dt>Task</dt>
      <dd class="mono">{detail.task}</dd>
      <dt>Batch</dt>
      <dd>
        {countText(detail.batch)} samples in {detail.microbatches} microbatches
      </dd>
      <dt>Workers</dt>
      <dd>
        {detail.workersMin} to {detail.workersMax}
      </dd>
      <dt>Arithmetic</dt>
      <dd>
        {detail.precision}, exchange {detail.exchange}, {detail.determinism}, seed {detail.seed}
      </dd>
      <dt>Parameters</dt>
      <dd>{known(detail.parameters)}</dd>
      <dt>Data set</dt>
      <dd>{known(detail.datasetLength)} samples</dd>
      {Object.entries(detail.metrics).map(([name, value]) => (
        <MetricLine key={name} name={name} value={value} />
      ))}
      {detail.weightsDigest !== '' && (
        <>
          <dt>Weights</dt>
          <dd class="mono path">{detail.weightsDigest}</dd>
        </>
      )}
      {detail.resumedFrom !== '' && (
        <>
          <dt>Continues</dt>
          <dd>
            <a href={jobAddress(detail.resumedFrom)}>{detail.resumedFrom}</a>
          </dd>
        </>
      )}
      <SpentLines detail={detail} />
      <dt>Output</dt>
      <dd class="mono path">{detail.output}</dd>
    </dl>
  );
}

/** Where the worker-hours went, and what they cost. */
function SpentLines({ detail: { spent, pricePerWorkerHour } }: { readonly detail: JobDetail }): JSX.Element | null {
  if (spent.workerSeconds === 0) return null;
  return (
    <>
      <dt>Worker-hours</dt>
      <dd>
        {hoursText(spent.workerSeconds)}
        {pricePerWorkerHour > 0 && `, which cost ${costText(spent.workerSeconds, pricePerWorkerHour)}`}
      </dd>
      <dt>Of them</dt>
      <dd>{sharesText(classesOf(spent))}</dd>
    </>
  );
}

function MetricLine({ name, value }: { readonly name: string; readonly value: number }): JSX.Element {
  return (
    <>
      <dt>{name}</dt>
      <dd>{Number(value.toPrecision(6))}</dd>
    </>
  );
}
