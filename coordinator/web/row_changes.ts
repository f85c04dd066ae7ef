/** Which rows of a table have changed since it was looked at last. */
import type { Rows } from '../../shared/wire/dashboard.js';

export class RowChanges<T> {
  readonly #idOf: (row: T) => string;
  /** The row as it was sent last, as JSON, by id. */
  readonly #sent = new Map<string, string>();

  constructor(idOf: (row: T) => string) {
    this.#idOf = idOf;
  }

  /** All rows of the table: what is missing is gone. */
  ofAll(rows: readonly T[]): Rows<T> | undefined {
    const present = new Set(rows.map(this.#idOf));
    const gone = [...this.#sent.keys()].filter((id) => !present.has(id));
    for (const id of gone) this.#sent.delete(id);
    return rowsOf(this.#changed(rows), gone);
  }

  /** Some rows: nothing is said of the others. */
  ofSome(rows: readonly T[]): Rows<T> | undefined {
    return rowsOf(this.#changed(rows), []);
  }

  /** Rows as a snapshot tells them to some: where others were told otherwise the next delta says what is so, even if that is as before. */
  told(rows: readonly T[]): void {
    for (const row of rows) {
      const id = this.#idOf(row);
      if (this.#sent.get(id) !== JSON.stringify(row)) this.#sent.set(id, '');
    }
  }

  #changed(rows: readonly T[]): readonly T[] {
    return rows.filter((row) => {
      const id = this.#idOf(row);
      const json = JSON.stringify(row);
      if (this.#sent.get(id) === json) return false;
      this.#sent.set(id, json);
      return true;
    });
  }
}

function rowsOf<T>(changed: readonly T[], gone: readonly string[]): Rows<T> | undefined {
  return changed.length === 0 && gone.length === 0 ? undefined : { changed, gone };
}
