/**
 * Who did what, on what, and what came of it: every call that changes something, and every one that is refused because of who makes it. (What
 * `lockstep audit` compares is data.) One JSON object a line, on stdout with "audit": true, and in a file of bounded size if one is configured.
 */
import { createLogger, type Logger } from '../../shared/logger.js';
import { RotatingLog } from '../../shared/rotating_log.js';

const OWNER_ONLY = 0o600;

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

export class AuditLog {
  readonly #stdout: Logger;
  readonly #file: RotatingLog | undefined;
  #failing = false;

  /** Throws if the file cannot be opened. */
  constructor(
    private readonly coordinator: string,
    path: string | undefined,
  ) {
    // Whatever level is configured.
    this.#stdout = createLogger('coordinator', coordinator, 'info');
    this.#file = path === undefined ? undefined : new RotatingLog(path, undefined, OWNER_ONLY);
  }

  record(entry: AuditEntry): void {
    this.#stdout.info('audit', { audit: true, ...entry });
    const line = { time: new Date().toISOString(), coordinator: this.coordinator, ...entry };
    try {
      this.#file?.write(Buffer.from(`${JSON.stringify(line)}\n`));
      this.#failing = false;
    } catch (error) {
      // The call has been answered, or is about to be: a full disk stops no cluster. It is said once.
      if (!this.#failing) this.#stdout.error('the audit log cannot be written', { error: String(error) });
      this.#failing = true;
    }
  }
}
