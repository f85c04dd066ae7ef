/** Changes to a job file from the command line: `key=value`, with dotted keys and YAML values. */
import { JobSpecError } from './job_spec_error.js';
import { joinField, parseYaml, quoted, YamlError, type YamlValue } from './yaml_text.js';

/** What the errors name instead of a file. */
export const CHANGES = '--set';

const KEY = /^[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63}){0,15}$/;

export interface JobChange {
  /** Path of the key, with dots. */
  readonly field: string;
  /** null takes the key away, so that its default holds. */
  readonly value: YamlValue;
}

/** Throws a JobSpecError that names the key. */
export function parseChange(text: string): JobChange {
  const equals = text.indexOf('=');
  if (equals < 0) throw new JobSpecError(CHANGES, '', `${quoted(text)} is not key=value`);
  const field = text.slice(0, equals);
  if (!KEY.test(field)) throw new JobSpecError(CHANGES, '', `${quoted(field)} is not a key such as batch or data.tail`);
  return { field, value: valueIn(field, text.slice(equals + 1)) };
}

function valueIn(field: string, text: string): YamlValue {
  if (/[\r\n]/.test(text)) throw new JobSpecError(CHANGES, field, 'has a line break in its value');
  try {
    return parseYaml(`value: ${text}`).root['value'] ?? null;
  } catch (error) {
    if (error instanceof YamlError) throw new JobSpecError(CHANGES, field, `the value ${error.problem}`);
    throw error;
  }
}

/** What a job file consists of, read from YAML or made of a spec. */
export type KeyMap = Readonly<Record<string, unknown>>;

export function isMap(value: unknown): value is KeyMap {
  return value !== null && typeof value === 'object' && !Array.isArray(value);
}

/** The map with the changes, as if they had been written in the file. Throws a JobSpecError where a key lies in what is no map. */
export function withChanges(root: KeyMap, changes: readonly JobChange[]): KeyMap {
  return changes.reduce((map, { field, value }) => changed(map, '', field.split('.'), value), root);
}

function changed(map: KeyMap, parent: string, [key = '', ...rest]: readonly string[], value: YamlValue): KeyMap {
  // Without a prototype, as everything that is read from a file.
  const copy: Record<string, unknown> = Object.assign(Object.create(null), map);
  const field = joinField(parent, key);
  if (rest.length > 0) copy[key] = changed(mapAt(map, key, field), field, rest, value);
  else if (value === null) delete copy[key];
  else copy[key] = value;
  return copy;
}

function mapAt(map: KeyMap, key: string, field: string): KeyMap {
  const inner = Object.hasOwn(map, key) ? map[key] : undefined;
  if (inner === undefined || inner === null) return Object.create(null);
  if (!isMap(inner)) throw new JobSpecError(CHANGES, field, 'is no map of keys');
  return inner;
}

/** Whether a problem with `field` is one of what was changed. */
export function concerns(changes: readonly JobChange[], field: string): boolean {
  const within = (inner: string, outer: string): boolean =>
    inner === outer || inner.startsWith(`${outer}.`) || inner.startsWith(`${outer}[`);
  return changes.some((change) => within(field, change.field) || within(change.field, field));
}
