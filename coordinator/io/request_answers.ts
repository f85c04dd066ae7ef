/** Answers of the core go to everybody who asks it something: each knows its own requests and ignores the others. */
import type { ReplyErrorCode } from '../core/command.js';
import type { Requests } from './driver.js';

export class RequestAnswers implements Requests {
  readonly #askers: readonly Requests[];

  constructor(askers: readonly Requests[]) {
    this.#askers = askers;
  }

  reply(request: string, job: string): void {
    for (const asker of this.#askers) asker.reply(request, job);
  }

  replyNode(request: string, worker: string): void {
    for (const asker of this.#askers) asker.replyNode(request, worker);
  }

  replyError(request: string, code: ReplyErrorCode, message: string): void {
    for (const asker of this.#askers) asker.replyError(request, code, message);
  }

  publish(job: string): void {
    for (const asker of this.#askers) asker.publish(job);
  }
}
