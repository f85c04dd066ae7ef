/** Events in words. */
import { formatBytes } from '../../shared/text/numbers.js';
import { printable } from '../../shared/text/printable.js';
import type { EventRow } from '../../shared/wire/dashboard.js';
import { lossText, msText } from '../figures.js';

export interface EventText {
  readonly what: string;
  readonly text: string;
  /** Whether somebody should look. */
  readonly tone: 'plain' | 'good' | 'warn' | 'bad';
}

export function eventText(event: EventRow): EventText {
  const { what, text, tone } = textOf(event);
  return { what, text: printable(text), tone };
}

function because(reason: string): string {
  return reason === '' ? '' : `: ${reason}`;
}

function metricsText(metrics: Readonly<Record<string, number>>): string {
  return Object.entries(metrics)
    .map(([name, value]) => `${name} ${Number(value.toPrecision(6))}`)
    .join(', ');
}

function textOf(event: EventRow): EventText {
  switch (event.kind) {
    case 'jobQueued':
      return { what: 'queued', text: event.name, tone: 'plain' };
    case 'workerJoined':
      return { what: 'joined', text: event.worker, tone: 'plain' };
    case 'workerRefused':
      return { what: 'refused', text: `${event.worker}${because(event.reason)}`, tone: 'warn' };
    case 'workerLost':
      return {
        what: 'lost',
        text: `${event.worker}, seen by ${event.detectedBy} after ${msText(event.detectMs)}${because(event.reason)}`,
        tone: 'bad',
      };
    case 'generationStarted':
      return {
        what: 'generation',
        text: `${event.generation} from step ${event.step} with ${event.workers.join(', ')}${because(event.reason)}`,
        tone: 'plain',
      };
    case 'recovered':
      return {
        what: 'recovered',
        text: `at step ${event.step + 1} in generation ${event.generation}, pause ${msText(event.pauseMs)}`,
        tone: 'good',
      };
    case 'leaderChanged':
      return { what: 'leader', text: `a coordinator leads in term ${event.term}`, tone: 'warn' };
    case 'evaluated':
      return {
        what: 'evaluated',
        text: `after ${event.step} steps${because(metricsText(event.metrics))}`,
        tone: 'plain',
      };
    case 'checkpointCommitted':
      return {
        what: 'checkpoint',
        text: `of step ${event.step}, ${formatBytes(event.bytes)} in ${msText(event.saveMs)}`,
        tone: 'plain',
      };
    case 'checkpointFailed':
      return { what: 'not saved', text: `step ${event.step}: ${event.error}`, tone: 'warn' };
    case 'checkpointRefused':
      return {
        what: event.damaged ? 'damaged' : 'unreachable',
        text: `checkpoint of step ${event.step}${because(event.reason)}`,
        tone: 'bad',
      };
    case 'workerReleased':
      return { what: 'released', text: `${event.worker}${because(event.reason)}`, tone: 'plain' };
    case 'jobPreempted':
      return { what: 'sent away', text: event.reason, tone: 'warn' };
    case 'workerMarked':
      return event.reason === ''
        ? { what: 'not marked', text: `${event.worker} gets jobs again`, tone: 'plain' }
        : { what: 'marked', text: `${event.worker}: ${event.reason}`, tone: 'warn' };
    case 'jobFinished':
      return {
        what: event.state,
        text: `after ${event.steps} steps${event.loss === undefined ? '' : `, loss ${lossText(event.loss)}`}${because(event.reason)}`,
        tone: event.state === 'finished' ? 'good' : event.state === 'failed' ? 'bad' : 'warn',
      };
  }
}
