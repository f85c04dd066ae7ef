/** The pieces that our file schemas are made of; every refusal names the key and says what would be right. */
import { z } from 'zod';
import { NAME, NAME_TEXT } from './name.js';
import { joinField, quoted } from './yaml_text.js';

/** What is wrong with a value, and the path of its key. */
export interface Problem {
  readonly field: string;
  readonly problem: string;
}

export type Checked<T> = { readonly value: T } | { readonly problem: Problem };

type RawIssue = { readonly input?: unknown };

/** "must be ...", or "is missing" for a key that is not there. */
function must(be: string): (issue: RawIssue) => string {
  return (issue) => (issue.input === undefined ? `is missing; it must be ${be}` : `must be ${be}`);
}

export function wholeNumber(min: number, max: number) {
  const error = must(`a whole number from ${min} to ${max}`);
  const fits = (value: number): boolean =>
    Number.isSafeInteger(value) && value >= min && value <= max && !Object.is(value, -0);
  return z.number({ error }).refine(fits, { error });
}

export function numberAbove(min: number) {
  const error = must(`a finite number above ${min}`);
  return z.number({ error }).refine((value) => Number.isFinite(value) && value > min, { error });
}

export function oneOf<const T extends readonly [string, ...string[]]>(values: T) {
  return z.enum(values, { error: must(values.join(' or ')) });
}

export function flag() {
  return z.boolean({ error: must('true or false') });
}

/** Text that `pattern` matches whole; `be` says in words what that is. */
export function textLike(pattern: RegExp, be: string) {
  const error = (issue: RawIssue): string => {
    const shown = typeof issue.input === 'string' ? `, not ${quoted(issue.input)}` : '';
    return `${must(be)(issue)}${shown}`;
  };
  return z.string({ error }).refine((value) => pattern.test(value), { error });
}

const UNITS = { MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 } as const;

/** A number of bytes with its unit. */
export function bytesText() {
  const error = must('a whole number of MiB, GiB or TiB, such as 64GiB');
  return z.string({ error }).transform((text, context) => {
    const [, number, unit] = /^([1-9][0-9]{0,6})(MiB|GiB|TiB)$/.exec(text) ?? [];
    if (unit === 'MiB' || unit === 'GiB' || unit === 'TiB') return Number(number) * UNITS[unit];
    context.addIssue({
      code: 'custom',
      message: `must be a whole number of MiB, GiB or TiB, such as 64GiB, not ${quoted(text)}`,
    });
    return z.NEVER;
  });
}

/** A map with no other keys than those of `shape`. */
export function strictMap<const S extends z.ZodRawShape>(shape: S) {
  const known = Object.keys(shape);
  return z.strictObject(shape, {
    error: (issue) => {
      if (issue.code !== 'unrecognized_keys') return must(`a map with the keys ${known.join(', ')}`)(issue);
      const nearest = nearestTo(String(issue.keys[0]), known);
      return nearest === undefined
        ? `is not a known key; the known keys are ${known.join(', ')}`
        : `is not a known key; did you mean ${nearest}?`;
    },
  });
}

const MOST_LABELS = 64;

/** A label's name or value. */
export const labelText = textLike(NAME, NAME_TEXT);

/** A map of labels to what `values` allows. */
export function labelMap<S extends z.ZodType>(values: S, be: string) {
  const error = must(`a map of at most ${MOST_LABELS} labels to ${be}`);
  return z
    .record(z.string(), values, { error })
    .refine((map) => Object.keys(map).length <= MOST_LABELS, { error })
    .superRefine((map, context) => {
      for (const label of Object.keys(map)) {
        if (!NAME.test(label)) context.addIssue({ code: 'custom', path: [label], message: 'is no label' });
      }
    });
}

/** host:port, with an IPv6 address in brackets. */
export function hostAndPort() {
  return textLike(
    /^(\[[0-9a-fA-F:]{2,45}\]|[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?):(?:[0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$/,
    'host:port',
  );
}

/** Objections to a map as a whole, each to one of its keys. */
export function objecting<T>(
  objectionsTo: (value: T) => readonly { readonly path: readonly (string | number)[]; readonly message: string }[],
): (value: T, context: z.RefinementCtx) => void {
  return (value, context) => {
    for (const { path, message } of objectionsTo(value)) {
      context.addIssue({ code: 'custom', path: [...path], message });
    }
  };
}

export function check<S extends z.ZodType>(schema: S, value: unknown): Checked<z.output<S>> {
  const result = schema.safeParse(value);
  if (result.success) return { value: result.data };
  // A slip in a key also makes the right key missing; the slip says more.
  const { issues } = result.error;
  const issue = issues.find((one) => one.code === 'unrecognized_keys') ?? issues[0];
  if (issue === undefined) return { problem: { field: '', problem: 'is not valid' } };
  const path = issue.code === 'unrecognized_keys' ? [...issue.path, String(issue.keys[0])] : issue.path;
  const field = path.reduce<string>((parent, key) => joinField(parent, typeof key === 'number' ? key : shown(key)), '');
  return { problem: { field, problem: issue.message } };
}

/** A key as part of a path: as it is when it is plain, quoted and shortened when it is not. */
function shown(key: PropertyKey): string {
  const text = String(key);
  return /^[\w-]{1,60}$/.test(text) ? text : quoted(text);
}

/** The known word that is fewest edits away from `word`, if it is near enough to be a slip. */
function nearestTo(word: string, known: readonly string[]): string | undefined {
  if (word.length > 64) return undefined;
  const ranked = known
    .map((candidate) => ({ candidate, distance: editDistance(word, candidate) }))
    .sort((a, b) => a.distance - b.distance);
  const best = ranked[0];
  return best !== undefined &&
    best.distance <= Math.max(2, Math.floor(word.length / 3)) &&
    best.distance < best.candidate.length
    ? best.candidate
    : undefined;
}

/** Levenshtein's distance. */
function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const substituted = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min((previous[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, substituted));
    }
    previous = row;
  }
  return previous[b.length] ?? 0;
}
