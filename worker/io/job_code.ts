/** Where an engine finds the code of its job: in a folder that all machines share, or in one that is made from an archive. */
import { BundleError } from '../../shared/bundle/bundle_error.js';
import { sha256OfReference } from '../../shared/bundle/reference.js';
import type { Logger } from '../../shared/logger.js';
import type { EngineEvent } from '../core/engine_protocol.js';
import type { CodeFolders } from './code_folders.js';

export interface JobCodeOptions {
  readonly folders: CodeFolders;
  /** See fetchBundle. */
  readonly fetch: (sha256: string, signal: AbortSignal) => Promise<Buffer>;
  readonly log: Logger;
}

export class JobCode {
  readonly #options: JobCodeOptions;

  constructor(options: JobCodeOptions) {
    this.#options = options;
  }

  /** The folder, where it need not be made; undefined for one that has to be. */
  shared(bundle: string): string | undefined {
    return sha256OfReference(bundle) === undefined ? bundle : undefined;
  }

  /** Makes the folder for the engine of this number. */
  async make(start: number, bundle: string, signal: AbortSignal): Promise<string> {
    const sha256 = sha256OfReference(bundle);
    if (sha256 === undefined) return bundle;
    return this.#options.folders.create(start, await this.#options.fetch(sha256, signal));
  }

  /** The engine of this number is gone. */
  release(start: number): void {
    this.#options.folders.remove(start).catch((error: unknown) => {
      this.#options.log.warn('the code of a job was not removed', { start, error: String(error) });
    });
  }

  close(): void {
    this.#options.folders.close();
  }
}

/** How the core hears that the code could not be had: bad code ends the job, anything else is tried again. */
export function codeFailure(error: unknown): Extract<EngineEvent, { event: 'failed' }> {
  const message = error instanceof Error ? error.message : String(error);
  return {
    event: 'failed',
    phase: 'code',
    kind: error instanceof BundleError ? 'user' : 'engine',
    message,
    traceback: '',
  };
}
