import type { JSX } from 'preact';
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

const SECONDS_PER_HOUR = 3600;

/** Where the worker-hours went, and what they cost. */
function SpentLines({ detail: { spent, pricePerWorkerHour } }: { readonly detail: JobDetail }): JSX.Element | null {
  if (spent.workerSeconds === 0) return null;
  const hours = spent.workerSeconds / SECONDS_PER_HOUR;
  const share = (seconds: number): string => `${Math.round((100 * seconds) / spent.workerSeconds)} %`;
  return (
    <>
      <dt>Worker-hours</dt>
      <dd>
        {hours.toFixed(2)}
        {pricePerWorkerHour > 0 && `, which cost ${(hours * pricePerWorkerHour).toFixed(2)}`}
      </dd>
      <dt>Of them</dt>
      <dd>
        compute {share(spent.computeSeconds)}, exchange {share(spent.exchangeSeconds)}, apply{' '}
        {share(spent.applySeconds)}, loading {share(spent.loadingSeconds)}, recovery {share(spent.recoverySeconds)}
      </dd>
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
