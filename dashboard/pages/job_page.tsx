/** One job: figures, charts, who takes part, and what it says. */
import type { JSX } from 'preact';
import { useMemo, useState } from 'preact/hooks';
import type { JobRow, NodeRow } from '../../shared/wire/dashboard.js';
import type { Marker } from '../charts/chart.js';
import { type Membership, membershipOf } from '../charts/generations.js';
import { LossChart } from '../charts/loss_chart.js';
import { type Palette, usePalette } from '../charts/palette.js';
import { StepTimeChart } from '../charts/step_time_chart.js';
import { ThroughputChart } from '../charts/throughput_chart.js';
import { Timeline } from '../charts/timeline.js';
import { countText, lossText, rateText, secondsText, shareText, UNKNOWN } from '../figures.js';
import type { JobModel } from '../model.js';
import { CancelButton } from '../parts/cancel_button.js';
import { CheckpointTable } from '../parts/checkpoint_table.js';
import { Choice } from '../parts/choice.js';
import { EventList } from '../parts/event_list.js';
import { LogView } from '../parts/log_view.js';
import { ProgressBar } from '../parts/progress_bar.js';
import { SpecList } from '../parts/spec_list.js';
import { Stat } from '../parts/stat.js';
import { StateBadge } from '../parts/state_badge.js';
import { WorkersTable } from '../parts/workers_table.js';

export interface JobPageProps {
  readonly row: JobRow;
  readonly job: JobModel;
  readonly nodes: ReadonlyMap<string, NodeRow>;
  readonly live: boolean;
  readonly mayCancel: boolean;
  readonly cancel: (checkpoint: boolean) => Promise<string>;
}

type Smoothing = '0' | '0.8' | '0.97';

export function JobPage({ row, job, nodes, live, mayCancel, cancel }: JobPageProps): JSX.Element {
  const hasEnded = row.state !== 'running' && row.state !== 'queued';
  const workers = [...nodes.values()]
    .filter((node) => node.job === row.job)
    .sort((left, right) => left.worker.localeCompare(right.worker, 'en', { numeric: true }));
  const membership = membershipNow(row, job, hasEnded);
  const lost = hasEnded ? [] : lostNow(membership, nodes);
  return (
    <>
      <JobHead row={row} hasEnded={hasEnded} live={live} mayCancel={mayCancel} cancel={cancel} />
      <Figures row={row} job={job} workers={workers.length} />
      {job.detail.traceback !== '' && (
        <section class="panel">
          <h2>Traceback</h2>
          <pre class="traceback">{job.detail.traceback}</pre>
        </section>
      )}
      <Charts job={job} committed={row.committed} membership={membership} />
      <section class="panel">
        <h2>Membership</h2>
        {membership.toMs <= membership.fromMs || membership.workers.length === 0 ? (
          <p class="empty">{hasEnded ? 'It is not known any more who took part.' : 'Nobody takes part yet.'}</p>
        ) : (
          <Timeline membership={membership} />
        )}
      </section>
      <section class="panel flush">
        <h2>Workers</h2>
        {workers.length + lost.length === 0 ? (
          <p class="empty">{hasEnded ? 'The job has ended; its workers are free.' : 'No worker has this job.'}</p>
        ) : (
          <WorkersTable nodes={workers} lost={lost} label="Workers of this job" />
        )}
      </section>
      <div class="columns">
        <section class="panel flush">
          <h2>Events</h2>
          <EventList events={job.events} />
        </section>
        <section class="panel flush logs">
          <h2>Logs</h2>
          <LogView logs={job.logs} />
        </section>
      </div>
      <div class="columns">
        <section class="panel flush">
          <h2>Checkpoints</h2>
          <CheckpointTable checkpoints={job.checkpoints} />
        </section>
        <section class="panel">
          <h2>Job</h2>
          <SpecList job={row.job} detail={job.detail} />
        </section>
      </div>
    </>
  );
}

/** A job that goes on is drawn up to now; one that has ended, up to its last sign of life. */
function membershipNow(row: JobRow, job: JobModel, hasEnded: boolean): Membership {
  const lastMs = Math.max(job.events.at(-1)?.timeMs ?? 0, job.series.timeMs.at(-1) ?? 0, row.submittedMs);
  const startedMs = job.events.find((event) => event.kind === 'generationStarted')?.timeMs;
  const steppedMs = job.series.timeMs[0];
  const beganMs = Math.min(startedMs ?? lastMs, steppedMs ?? startedMs ?? row.submittedMs);
  const newest = { generation: row.generation, roster: job.detail.roster };
  return membershipOf(newest, job.events, beganMs, hasEnded ? lastMs : Math.max(lastMs, Date.now()));
}

function lostNow({ losses }: Membership, nodes: ReadonlyMap<string, NodeRow>): readonly string[] {
  return [...new Set(losses.map((loss) => loss.worker))].filter((worker) => !nodes.has(worker));
}

interface JobHeadProps {
  readonly row: JobRow;
  readonly hasEnded: boolean;
  readonly live: boolean;
  readonly mayCancel: boolean;
  readonly cancel: (checkpoint: boolean) => Promise<string>;
}

function JobHead({ row, hasEnded, live, mayCancel, cancel }: JobHeadProps): JSX.Element {
  return (
    <header class="job-head">
      <div>
        <h1>
          {row.name} <span class="id">{row.job}</span> <StateBadge state={row.state} />
        </h1>
        {row.reason !== '' && <p class={row.state === 'failed' ? 'error' : 'hint'}>{row.reason}</p>}
      </div>
      {!hasEnded && mayCancel && (
        <CancelButton name={row.name} canSave={row.state === 'running'} enabled={live} cancel={cancel} />
      )}
    </header>
  );
}

interface FiguresProps {
  readonly row: JobRow;
  readonly job: JobModel;
  readonly workers: number;
}

function Figures({ row, job, workers }: FiguresProps): JSX.Element {
  const share = row.steps === 0 ? '' : shareText(row.committed, row.steps);
  const { samplesLost, samplesRepeated } = job.detail;
  return (
    <>
      <ProgressBar committed={row.committed} steps={row.steps} />
      <dl class="stats">
        <Stat name={row.steps === 0 ? 'Steps' : `Step of ${countText(row.steps)}`} note={share}>
          {countText(row.committed)}
        </Stat>
        <Stat name="Loss">{lossText(row.loss)}</Stat>
        <Stat name="Steps/s">{rateText(row.stepsPerSecond)}</Stat>
        <Stat name="Samples/s">{rateText(row.samplesPerSecond)}</Stat>
        <Stat name="Time left">{secondsText(row.secondsLeft)}</Stat>
        <Stat name="Workers" note={row.generation === 0 ? '' : `g${row.generation}`}>
          {workers}
        </Stat>
        <Stat name="Checkpoint">{row.checkpoint === null ? UNKNOWN : countText(row.checkpoint)}</Stat>
        <Stat name="Samples lost" note={samplesRepeated === 0 ? '' : `${samplesRepeated} twice`}>
          {samplesLost}
        </Stat>
      </dl>
    </>
  );
}

interface ChartsProps {
  readonly job: JobModel;
  readonly committed: number;
  readonly membership: Membership;
}

function Charts({ job, committed, membership }: ChartsProps): JSX.Element {
  const palette = usePalette();
  const [axis, setAxis] = useState<'step' | 'time'>('step');
  const [scale, setScale] = useState<'linear' | 'log'>('linear');
  const [smoothing, setSmoothing] = useState<Smoothing>('0.8');
  const byTime = axis === 'time';
  const { generations, losses } = membership;
  // The membership is made anew at every look; its events say when it is another.
  const markers = useMemo(
    () => markersOf(membership, byTime, palette),
    [generations.length, losses.length, byTime, palette],
  );
  const { series, stride } = job;
  if (series.step.length === 0) {
    return (
      <section class="panel">
        <h2>Loss</h2>
        <p class="empty">
          {committed === 0
            ? 'No step has been reported yet.'
            : 'Its steps were reported before this coordinator led, or are too long ago.'}
        </p>
      </section>
    );
  }
  return (
    <>
      <section class="panel">
        <div class="chart-head">
          <h2>Loss</h2>
          <Choice
            label="By"
            options={[
              ['step', 'Step'],
              ['time', 'Time'],
            ]}
            value={axis}
            choose={setAxis}
          />
          <Choice
            label="Scale"
            options={[
              ['linear', 'Linear'],
              ['log', 'Log'],
            ]}
            value={scale}
            choose={setScale}
          />
          <Choice
            label="Smooth"
            options={[
              ['0', 'Off'],
              ['0.8', 'Some'],
              ['0.97', 'More'],
            ]}
            value={smoothing}
            choose={setSmoothing}
          />
          {stride > 1 && <span class="hint">a point is the mean of {stride} steps</span>}
        </div>
        <LossChart
          series={series}
          stride={stride}
          byTime={byTime}
          log={scale === 'log'}
          smoothing={Number(smoothing)}
          markers={markers}
          palette={palette}
        />
      </section>
      <div class="columns">
        <section class="panel">
          <h2>Time of a step</h2>
          <StepTimeChart series={series} byTime={byTime} markers={markers} palette={palette} />
        </section>
        <section class="panel">
          <h2>Samples a second</h2>
          <ThroughputChart series={series} byTime={byTime} markers={markers} palette={palette} />
        </section>
      </div>
    </>
  );
}

/** Every generation but the first, in red where a worker was lost before it. */
function markersOf({ generations, losses }: Membership, byTime: boolean, palette: Palette): readonly Marker[] {
  return generations.slice(1).map(({ generation, step, fromMs }, index) => {
    const beforeMs = generations[index]?.fromMs ?? 0;
    const lost = losses.filter((loss) => loss.timeMs > beforeMs && loss.timeMs <= fromMs);
    const text =
      lost.length === 0 ? `g${generation}` : `g${generation}, lost ${lost.map((one) => one.worker).join(', ')}`;
    return { at: byTime ? fromMs / 1000 : (step ?? 0), color: lost.length === 0 ? palette.warn : palette.bad, text };
  });
}
