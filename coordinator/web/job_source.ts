/** One job, for the channel of those who look at it. */
import type { JobDelta, JobDetail, JobSnapshot } from '../../shared/wire/dashboard.js';
import type { CoordinatorState, JobRun } from '../core/state.js';
import type { ChannelSource } from './channel.js';
import type { JobHistory } from './job_history.js';
import { checkpointRows, jobDetail, logRows, nextLogLine } from './rows.js';
import { changeFrom } from './series_columns.js';

export class JobSource implements ChannelSource {
  readonly #state: CoordinatorState;
  readonly #run: JobRun;
  readonly #history: JobHistory;
  #detail = '';
  #checkpoints: JobRun['checkpoints'];
  #nextEvent = 0;
  #nextLine = 0;

  /** Deltas begin with what comes after this moment. */
  constructor(state: CoordinatorState, run: JobRun, history: JobHistory) {
    this.#state = state;
    this.#run = run;
    this.#history = history;
    this.#checkpoints = run.checkpoints;
    this.#passEvents();
    this.#nextLine = nextLogLine(run);
    this.#takeDetail();
    history.series.takeChange();
  }

  takeDelta(): JobDelta | undefined {
    const delta: JobDelta = {
      detail: this.#takeDetail(),
      series: this.#takeSeries(),
      events: this.#takeEvents(),
      logs: this.#takeLogs(),
      checkpoints: this.#takeCheckpoints(),
    };
    return Object.values(delta).every((part) => part === undefined) ? undefined : delta;
  }

  snapshot(): JobSnapshot {
    return {
      job: this.#run.record.job,
      detail: jobDetail(this.#state, this.#run),
      series: changeFrom(this.#history.series, 0),
      events: this.#history.events,
      logs: logRows(this.#run, 0),
      checkpoints: checkpointRows(this.#run),
    };
  }

  #takeDetail(): JobDetail | undefined {
    const detail = jobDetail(this.#state, this.#run);
    const json = JSON.stringify(detail);
    if (json === this.#detail) return undefined;
    this.#detail = json;
    return detail;
  }

  #takeSeries() {
    const from = this.#history.series.takeChange();
    return from === undefined ? undefined : changeFrom(this.#history.series, from);
  }

  #takeEvents() {
    const events = this.#history.events.filter((event) => event.sequence >= this.#nextEvent);
    this.#passEvents();
    return events.length === 0 ? undefined : events;
  }

  #passEvents(): void {
    this.#nextEvent = (this.#history.events.at(-1)?.sequence ?? -1) + 1;
  }

  #takeLogs() {
    const logs = logRows(this.#run, this.#nextLine);
    this.#nextLine = nextLogLine(this.#run);
    return logs.length === 0 ? undefined : logs;
  }

  #takeCheckpoints() {
    if (this.#run.checkpoints === this.#checkpoints) return undefined;
    this.#checkpoints = this.#run.checkpoints;
    return checkpointRows(this.#run);
  }
}
