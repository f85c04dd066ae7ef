/**
 * The credentials of a process that runs for long: the files are looked at every few seconds, and when they have changed and are good the
 * new ones are used for every connection from then on. Bad ones are said once, and what was there stays in use.
 */
import { ChangedFiles, LOOK_MS } from '../changed_files.js';
import { type CredentialFiles, type Credentials, readCredentials } from './credential_files.js';
import { described, type Expected } from './identity.js';

const DAY_MS = 86_400_000;
/** From here on the log says every day that the certificate expires. */
const WARN_DAYS = 14;

/** What this folder needs of a logger; winston's fits. */
export interface CredentialLog {
  info(message: string, fields?: Readonly<Record<string, unknown>>): void;
  warn(message: string, fields?: Readonly<Record<string, unknown>>): void;
}

export interface KeptCredentialsOptions {
  readonly files: CredentialFiles;
  readonly expected: Expected;
  readonly log: CredentialLog;
  readonly lookMs?: number;
}

/** Credentials that can be replaced while they are in use. */
export interface CredentialSource {
  readonly current: Credentials;
  /** Called at every change, for as long as the process lives. Must not throw. */
  onChange(listener: (credentials: Credentials) => void): void;
}

export class KeptCredentials implements CredentialSource {
  readonly #options: KeptCredentialsOptions;
  readonly #listeners: ((credentials: Credentials) => void)[] = [];
  readonly #timer: NodeJS.Timeout;
  readonly #files: ChangedFiles<Credentials>;
  #current: Credentials;
  #warnedMs = Number.NEGATIVE_INFINITY;

  /** Throws a CredentialError if the files are no good. */
  constructor(options: KeptCredentialsOptions) {
    const { files, expected, log } = options;
    this.#options = options;
    this.#files = new ChangedFiles({
      paths: [files.ca, files.certificate, files.key],
      read: () => readCredentials(files, expected),
      onRead: (next) => this.#replace(next),
      onRefused: (reason) => log.warn('the new certificate files are not used, the old ones stay', { reason }),
    });
    this.#current = readCredentials(files, expected);
    this.#timer = setInterval(() => this.#look(), options.lookMs ?? LOOK_MS);
    // Alone they keep no process alive.
    this.#timer.unref();
    this.#warnOfExpiry();
  }

  get current(): Credentials {
    return this.#current;
  }

  onChange(listener: (credentials: Credentials) => void): void {
    this.#listeners.push(listener);
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    this.#warnOfExpiry();
    void this.#files.look();
  }

  #replace(next: Credentials): void {
    const { ca, certificate, key } = this.#current;
    if (next.ca === ca && next.certificate === certificate && next.key === key) return;
    this.#current = next;
    this.#warnedMs = Number.NEGATIVE_INFINITY;
    this.#options.log.info('new certificate files are in use', {
      identity: described(next.identity),
      expires: new Date(next.expiresMs).toISOString(),
    });
    for (const listener of this.#listeners) listener(next);
    this.#warnOfExpiry();
  }

  #warnOfExpiry(): void {
    const leftMs = this.#current.expiresMs - Date.now();
    const nowMs = performance.now();
    if (leftMs > WARN_DAYS * DAY_MS || nowMs - this.#warnedMs < DAY_MS) return;
    this.#warnedMs = nowMs;
    const expires = new Date(this.#current.expiresMs).toISOString();
    this.#options.log.warn('the certificate expires soon: renew it', {
      file: this.#options.files.certificate,
      expires,
    });
  }
}
