/** A state that is all right for a while, and a fault when it lasts. */
export class Lasting {
  #sinceMs: number | undefined;

  constructor(private readonly limitMs: number) {}

  /** Whether `holds` has been true at every look since `limitMs` ago. */
  look(nowMs: number, holds: boolean): boolean {
    this.#sinceMs = holds ? (this.#sinceMs ?? nowMs) : undefined;
    return this.#sinceMs !== undefined && nowMs - this.#sinceMs >= this.limitMs;
  }
}
