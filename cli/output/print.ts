/** The answer of a command that asks once. */
import type { Context } from '../context.js';
import type { JsonOption } from '../options.js';

/** One object a line for programs, or the text for people. */
export function print(context: Context, options: JsonOption, objects: readonly object[], text: () => string): void {
  if (options.json) for (const one of objects) context.write(`${JSON.stringify(one)}\n`);
  else context.write(`${text()}\n`);
}
