/** Events as one line for people. */

import { formatBytes, formatDuration, formatLoss, formatMetrics, formatRate } from '../../shared/text/numbers.js';
import { printable, printableLines } from '../../shared/text/printable.js';
import type { JobEvent, LogEntry } from '../../shared/wire/jobs.js';
import type { ProgressNow } from './progress.js';

type OtherEvent = Exclude<JobEvent, { kind: 'stepCommitted' }>;
type WorkerLost = Extract<JobEvent, { kind: 'workerLost' }>;
type JobFinished = Extract<JobEvent, { kind: 'jobFinished' }>;

/** Every event but the steps, of which there are many: see progressLine. */
export function eventLine(event: OtherEvent): string {
  return printableLines(textOf(event));
}

function textOf(event: OtherEvent): string {
  switch (event.kind) {
    case 'jobQueued':
      return `queued ${event.name} as ${event.job}`;
    case 'workerJoined':
      return `joined ${event.worker}`;
    case 'workerRefused':
      return `refused ${event.worker}: ${event.reason}`;
    case 'workerLost':
      return `lost ${event.worker} (${lossText(event)})${because(event.reason)}`;
    case 'generationStarted':
      return `generation ${event.generation} from step ${event.step} with ${event.workers.join(', ')}${because(event.reason)}`;
    case 'recovered':
      return `recovered in generation ${event.generation} at step ${event.step + 1}, pause ${Math.round(event.pauseMs)} ms`;
    case 'leaderChanged':
      return `a coordinator leads in term ${event.term}`;
    case 'evaluated':
      return `evaluated after ${event.step} steps: ${formatMetrics(event.metrics) || 'no metrics'}`;
    case 'checkpointCommitted':
      return `saved the state after step ${event.step} (${formatBytes(event.bytes)}, ${Math.round(event.saveMs)} ms): ${event.path}`;
    case 'checkpointFailed':
      return `the state after step ${event.step} was not saved: ${event.error}`;
    case 'checkpointRefused':
      return `the checkpoint of step ${event.step} ${event.damaged ? 'is damaged and not used any more' : 'cannot be reached'}: ${event.reason}`;
    case 'workerReleased':
      return `released ${event.worker}${because(event.reason)}`;
    case 'jobPreempted':
      return `preempted${because(event.reason)}`;
    case 'workerMarked':
      return event.reason === '' ? `${event.worker} is not marked any more` : `marked ${event.worker}: ${event.reason}`;
    case 'jobFinished':
      return finishedText(event);
  }
}

/** An engine's failure is known at once; anything else takes time to be seen. */
function lossText({ detectedBy, detectMs }: WorkerLost): string {
  return detectedBy === 'engine_exit' ? 'its engine failed' : `${detectedBy}, ${Math.round(detectMs)} ms`;
}

function because(reason: string): string {
  return reason === '' ? '' : `: ${reason}`;
}

function finishedText(event: JobFinished): string {
  const lines = [`${event.state} after ${event.steps} steps${because(event.reason)}`];
  if (event.loss !== undefined) lines.push(`  loss     ${formatLoss(event.loss)}`);
  if (event.metrics.size > 0) lines.push(`  metrics  ${formatMetrics(event.metrics)}`);
  if (event.weightsDigest !== '') lines.push(`  weights  ${event.weightsDigest}`);
  if (event.state === 'finished' && event.output !== '') lines.push(`  model    ${event.output}/model.safetensors`);
  if (event.traceback !== '') lines.push(event.traceback.trimEnd());
  return lines.join('\n');
}

/** "step 12/300  loss 2.3412  1,024 samples/s  2m05s left" */
export function progressLine(now: ProgressNow): string {
  return [`step ${now.done}/${now.total}`, ...progressFacts(now)].join('  ');
}

export function progressFacts(now: ProgressNow): readonly string[] {
  const facts = [`loss ${formatLoss(now.loss)}`];
  if (now.samplesPerSecond !== undefined) facts.push(`${formatRate(now.samplesPerSecond)} samples/s`);
  if (now.secondsLeft !== undefined) facts.push(`${formatDuration(now.secondsLeft)} left`);
  return facts;
}

/** What a worker's user code printed, with the worker's name before every line, and its attempt if it is not the first. */
export function logLine({ worker, attempt, text }: Pick<LogEntry, 'worker' | 'attempt' | 'text'>): string {
  const name = printable(attempt > 1 ? `${worker}#${attempt}` : worker);
  return printableLines(text)
    .replace(/\n$/, '')
    .split('\n')
    .map((line) => `[${name}] ${line}`)
    .join('\n');
}
