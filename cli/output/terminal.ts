/** A terminal: a progress bar at the bottom, everything else above it. */
import { MultiBar, type SingleBar } from 'cli-progress';
import pc from 'picocolors';
import type { JobEvent, LogEntry } from '../../shared/wire/jobs.js';
import { eventLine, logLine, progressFacts } from './event_line.js';
import { type Output, type ReadyCluster, readyLine, type Write } from './output.js';
import { Progress } from './progress.js';

const BAR_COLUMNS = 24;
const UPDATES_PER_SECOND = 10;

export class TerminalOutput implements Output {
  readonly showsLogs = true;
  readonly #progress = new Progress();
  readonly #stream: NodeJS.WriteStream;
  #bars: MultiBar | undefined;
  #bar: SingleBar | undefined;

  constructor(
    stream: NodeJS.WriteStream,
    private readonly write: Write,
  ) {
    this.#stream = stream;
  }

  ready(cluster: ReadyCluster): void {
    this.note(pc.dim(readyLine(cluster)));
  }

  event(event: JobEvent): void {
    if (event.kind === 'stepCommitted') this.#step(event);
    else if (event.kind === 'jobFinished') this.#finish(event);
    else this.note(event.kind === 'workerLost' ? pc.yellow(eventLine(event)) : pc.dim(eventLine(event)));
  }

  log(entry: LogEntry): void {
    this.note(logLine(entry));
  }

  note(text: string): void {
    // The bar's own drawing must come between, or it would be drawn over.
    if (this.#bars === undefined) this.write(`${text}\n`);
    else this.#bars.log(`${text}\n`);
  }

  close(): void {
    this.#bars?.update();
    this.#bars?.stop();
    this.#bars = undefined;
  }

  #finish(event: Extract<JobEvent, { kind: 'jobFinished' }>): void {
    this.close();
    const [first = '', ...rest] = eventLine(event).split('\n');
    this.note([event.state === 'finished' ? pc.green(first) : pc.red(first), ...rest].join('\n'));
  }

  #step(event: Extract<JobEvent, { kind: 'stepCommitted' }>): void {
    const now = this.#progress.step(event);
    const facts = { facts: progressFacts(now).join('  ') };
    if (this.#bar === undefined) this.#bar = this.#start(now.total, now.done, facts);
    this.#bar.setTotal(now.total);
    this.#bar.update(now.done, facts);
  }

  #start(total: number, done: number, facts: { readonly facts: string }): SingleBar {
    this.#bars = new MultiBar({
      stream: this.#stream,
      format: `${pc.cyan('{bar}')} {value}/{total}  {facts}`,
      barsize: BAR_COLUMNS,
      barCompleteChar: '\u2588',
      barIncompleteChar: '\u2591',
      fps: UPDATES_PER_SECOND,
      hideCursor: true,
      // Draws the bar again after lines were written above it, and cuts it at the edge.
      forceRedraw: true,
      linewrap: true,
    });
    return this.#bars.create(total, done, facts);
  }
}
