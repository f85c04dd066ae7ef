/**
 * Who did what, on what, and what came of it: every call that changes something, and every one that is refused because of who makes it. (What
 * `lockstep audit` compares is data.) One JSON object a line, on stdout with "audit": true, and in a file of bounded size if one is configured.
 */
import { createLogger, type Logger } from '../../shared/logger.js';
import { AuditFile } from './audit_file.js';

export interface AuditEntry {
  /** By the certificate, a token of the dashboard or its proxy: "submitter anna"; "local" where nobody is asked for one. */
  readonly who: string;
  /** Address of the other end. */
  readonly from: string;
  /** "Jobs.Cancel" */
  readonly call: string;
  /** Job, worker and the like, as far as the call names them. */
  readonly on: Readonly<Record<string, string>>;
  /** "OK", or the code of the refusal; of the dashboard, "REFUSED". */
  readonly outcome: string;
  /** Why it was refused. */
  readonly reason?: string | undefined;
}

/** Where entries go. */
export interface AuditTrail {
  record(entry: AuditEntry): void;
  /** Why nothing may be changed now: it could not be written down. */
  readonly objection: string | undefined;
}

export class AuditLog implements AuditTrail {
  readonly #stdout: Logger;
  readonly #file: AuditFile | undefined;

  /** Throws if the file cannot be opened. */
  constructor(
    private readonly coordinator: string,
    path: string | undefined,
  ) {
    // Whatever level is configured.
    this.#stdout = createLogger('coordinator', coordinator, 'info');
    this.#file = path === undefined ? undefined : new AuditFile(path, this.#stdout);
  }

  get objection(): string | undefined {
    return this.#file?.isFull ? 'the audit log of this coordinator cannot be written; try again later' : undefined;
  }

  record(entry: AuditEntry): void {
    this.#stdout.info('audit', { audit: true, ...entry });
    const line = { time: new Date().toISOString(), coordinator: this.coordinator, ...entry };
    this.#file?.add(`${JSON.stringify(line)}\n`, entry.outcome === 'OK');
  }

  async close(): Promise<void> {
    await this.#file?.close();
  }
}
