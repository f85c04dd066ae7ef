/** Answers of one kind: a table or a few lines for people, one object a line for programs. */
import Table from 'cli-table3';
import type { Context } from '../context.js';
import type { JsonOption } from '../options.js';
import { printable } from './printable.js';

export function printAnswer(
  context: Context,
  options: JsonOption,
  objects: readonly object[],
  text: () => string,
): void {
  if (options.json) for (const one of objects) context.write(`${JSON.stringify(one)}\n`);
  else context.write(`${text()}\n`);
}

/** Columns without frames. */
export function tableOf(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const none = Object.fromEntries(
    ['top', 'top-mid', 'top-left', 'top-right', 'bottom', 'bottom-mid', 'bottom-left', 'bottom-right']
      .concat(['left', 'left-mid', 'mid', 'mid-mid', 'right', 'right-mid'])
      .map((name) => [name, '']),
  );
  const table = new Table({
    head: [...head],
    chars: { ...none, middle: '  ' },
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 },
  });
  for (const row of rows) table.push(row.map(printable));
  return table.toString();
}
