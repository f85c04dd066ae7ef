/** One JSON object a line, for programs. */
import type { JobEvent } from '../../shared/wire/jobs.js';
import { eventJson } from './json.js';
import type { Output, ReadyCluster, Write } from './output.js';

export class NdjsonOutput implements Output {
  readonly showsLogs = false;

  constructor(private readonly write: Write) {}

  ready(cluster: ReadyCluster): void {
    const { api, dashboard, etcd, tls, pids } = cluster;
    this.#line({ event: 'ready', api, dashboard, etcd, ...(tls === undefined ? {} : { tls }), pids });
  }

  event(event: JobEvent): void {
    this.#line(eventJson(event));
  }

  log(): void {
    // `lockstep logs --json` shows what the user's code printed.
  }

  note(): void {
    // For people.
  }

  close(): void {
    // Nothing is held back.
  }

  #line(value: Readonly<Record<string, unknown>>): void {
    this.write(`${JSON.stringify(value)}\n`);
  }
}
