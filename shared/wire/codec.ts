/**
 * Two-way converters between what proto-loader gives and our own types.
 *
 * proto-loader drops a misspelt field silently, turns an unknown enum into zero, and does not type oneofs. A codec is
 * strict both ways, and the type of the message is inferred from it, so each message is described once.
 */

/** A value on the wire was missing, of the wrong type or out of bounds. `path` names the field. */
export class WireError extends Error {
  readonly #problem: string;

  constructor(
    readonly path: string,
    problem: string,
  ) {
    super(`${path}: ${problem}`);
    this.name = 'WireError';
    this.#problem = problem;
  }

  /** Of what is inside of `path`. */
  within(path: string): WireError {
    return new WireError(`${path}${this.path}`, this.#problem);
  }
}

/** Names of fields are put together only when something is wrong: whatever is inside says its part, and this the one before. */
function within(path: string, error: unknown): unknown {
  return error instanceof WireError ? error.within(path) : error;
}

export interface Codec<T> {
  encode(value: T, path: string): unknown;
  decode(wire: unknown, path: string): T;
}

/** A codec for a protobuf message; `fields` are its field names in lowerCamelCase. */
export interface MessageCodec<T> extends Codec<T> {
  readonly fields: readonly string[];
}

export type Infer<C> = C extends Codec<infer T> ? T : never;

function same<T>(check: (value: unknown, path: string) => T): Codec<T> {
  return { encode: check, decode: check };
}

/** Text of at most `maxLength` UTF-16 units. */
export function text(maxLength = 1024): Codec<string> {
  return same((value, path) => {
    if (typeof value !== 'string') throw new WireError(path, 'must be text');
    if (value.length > maxLength) throw new WireError(path, `is longer than ${maxLength} characters`);
    return value;
  });
}

export const bool: Codec<boolean> = same((value, path) => {
  if (typeof value !== 'boolean') throw new WireError(path, 'must be true or false');
  return value;
});

/** A double; NaN and infinities pass, because a loss may be one. */
export const double: Codec<number> = same((value, path) => {
  if (typeof value !== 'number') throw new WireError(path, 'must be a number');
  return value;
});

/** What can be added up and stored: JSON has no NaN and no infinities, and nobody could lead over a record that has null for them. */
export const finite: Codec<number> = same((value, path) => {
  const number = double.decode(value, path);
  if (!Number.isFinite(number)) throw new WireError(path, 'must be finite');
  return number;
});

const MOST_MS = 1e12;

export const milliseconds: Codec<number> = same((value, path) => {
  const ms = finite.decode(value, path);
  if (ms < 0 || ms > MOST_MS) throw new WireError(path, `must be from 0 to ${MOST_MS}`);
  return ms;
});

function checkedUint(value: unknown, max: number, path: string): number {
  const number = typeof value === 'string' && /^\d{1,20}$/.test(value) ? Number(value) : value;
  if (typeof number !== 'number' || !Number.isInteger(number) || number < 0) {
    throw new WireError(path, 'must be a non-negative whole number');
  }
  if (number > max) throw new WireError(path, `is larger than ${max}`);
  return number;
}

export const uint32: Codec<number> = same((value, path) => checkedUint(value, 0xffffffff, path));

export const int32: Codec<number> = same((value, path) => {
  if (typeof value === 'number' && Number.isInteger(value) && Math.abs(value) <= 0x7fffffff) return value;
  throw new WireError(path, 'must be a whole number of 32 bits');
});

/** A uint64 as far as a JavaScript number is exact: what proto-loader had to round is above that. Decimal text, as JSON may have it, is taken too. */
export const uint53: Codec<number> = same((value, path) => checkedUint(value, Number.MAX_SAFE_INTEGER, path));

export function bytes(maxLength: number): Codec<Uint8Array> {
  return same((value, path) => {
    if (!(value instanceof Uint8Array)) throw new WireError(path, 'must be bytes');
    if (value.length > maxLength) throw new WireError(path, `is longer than ${maxLength} bytes`);
    return value;
  });
}

/** An enum. `names` maps our values to the names in the .proto file; the unspecified value is refused. */
export function choice<const N extends Readonly<Record<string, string>>>(names: N): Codec<keyof N & string> {
  const ours = new Map(Object.entries(names).map(([own, wire]) => [wire, own]));
  return {
    encode: (value, path) => {
      const wire = names[value];
      if (wire === undefined) throw new WireError(path, `has no value ${JSON.stringify(value)}`);
      return wire;
    },
    decode: (wire, path) => {
      const own = ours.get(String(wire));
      if (own === undefined) throw new WireError(path, `has no value ${JSON.stringify(wire)}`);
      return own as keyof N & string;
    },
  };
}

export function list<T>(item: Codec<T>, maxItems = 65_536): Codec<readonly T[]> {
  const each = (value: unknown, path: string, convert: (one: never, path: string) => unknown): unknown[] => {
    if (!Array.isArray(value)) throw new WireError(path, 'must be a list');
    if (value.length > maxItems) throw new WireError(path, `has more than ${maxItems} entries`);
    let index = 0;
    try {
      const converted: unknown[] = [];
      for (; index < value.length; index++) converted.push(convert(value[index] as never, ''));
      return converted;
    } catch (error) {
      throw within(`${path}[${index}]`, error);
    }
  };
  return {
    encode: (value, path) => each(value, path, item.encode),
    decode: (wire, path) => each(wire, path, item.decode) as T[],
  };
}

/** map<string, V>. Our side is a Map, so that no key can be mistaken for a property of Object. */
export function mapOf<V>(item: Codec<V>, maxEntries = 1024): Codec<ReadonlyMap<string, V>> {
  return {
    encode: (value, path) => {
      if (value.size > maxEntries) throw new WireError(path, `has more than ${maxEntries} entries`);
      const wire = Object.create(null) as Record<string, unknown>;
      for (const [key, one] of value) wire[key] = item.encode(one, `${path}.${key}`);
      return wire;
    },
    decode: (wire, path) => {
      if (wire === null || typeof wire !== 'object') throw new WireError(path, 'must be a map');
      const entries = Object.entries(wire);
      if (entries.length > maxEntries) throw new WireError(path, `has more than ${maxEntries} entries`);
      return new Map(entries.map(([key, one]) => [key, item.decode(one, `${path}.${key}`)]));
    },
  };
}

/** A proto3 `optional` field, or a message field that may be absent. */
export function optional<T>(item: Codec<T>): Codec<T | undefined> {
  return {
    encode: (value, path) => (value === undefined ? undefined : item.encode(value, path)),
    decode: (wire, path) => (wire === undefined || wire === null ? undefined : item.decode(wire, path)),
  };
}

type Shape = Readonly<Record<string, Codec<unknown>>>;
type OptionalKeys<S> = { [K in keyof S]: undefined extends Infer<S[K]> ? K : never }[keyof S];
type Flatten<T> = { readonly [K in keyof T]: T[K] };
type MessageOf<S> = Flatten<
  { [K in Exclude<keyof S, OptionalKeys<S>>]: Infer<S[K]> } & {
    [K in OptionalKeys<S>]?: Infer<S[K]> | undefined;
  }
>;

function fieldsOf(wire: unknown, path: string): Readonly<Record<string, unknown>> {
  if (wire === null || typeof wire !== 'object' || Array.isArray(wire)) throw new WireError(path, 'is missing');
  return wire as Record<string, unknown>;
}

/** A message whose fields are exactly those of `shape`. */
export function message<const S extends Shape>(shape: S): MessageCodec<MessageOf<S>> {
  const fields = Object.keys(shape);
  const each = (direction: 'encode' | 'decode') => {
    const parts = Object.entries(shape).map(([field, codec]) => ({ field, path: `.${field}`, codec }));
    return (value: unknown, path: string): unknown => {
      const source = fieldsOf(value, path);
      const result: Record<string, unknown> = {};
      try {
        for (const { field, path: inside, codec } of parts) {
          const converted = codec[direction](source[field], inside);
          if (converted !== undefined) result[field] = converted;
        }
      } catch (error) {
        throw within(path, error);
      }
      return result;
    };
  };
  return { fields, encode: each('encode'), decode: each('decode') as (wire: unknown, path: string) => MessageOf<S> };
}

type Variants = Readonly<Record<string, Codec<unknown>>>;
type UnionOf<V extends Variants> = { [K in keyof V & string]: { readonly kind: K } & Infer<V[K]> }[keyof V & string];

/**
 * A message that is one oneof, as a union on `kind`. `oneof` is its name in the .proto file; with the loader option
 * `oneofs` it names the variant that is set. `common` are the fields beside the oneof.
 */
export function union<const V extends Variants, const S extends Shape = Record<never, never>>(
  oneof: string,
  variants: V,
  common?: S,
): MessageCodec<UnionOf<V> & MessageOf<S>> {
  const beside = message(common ?? ({} as S));
  const known = new Map(Object.entries(variants).map(([kind, codec]) => [kind, { codec, path: `.${kind}` }]));
  return {
    fields: [...beside.fields, ...Object.keys(variants)],
    encode: (value, path) => {
      const kind = (value as { kind: string }).kind;
      const variant = known.get(kind);
      if (variant === undefined) throw new WireError(path, `has no kind ${JSON.stringify(kind)}`);
      const wire = beside.encode(value as never, path) as Record<string, unknown>;
      try {
        wire[kind] = variant.codec.encode(value, variant.path);
      } catch (error) {
        throw within(path, error);
      }
      return wire;
    },
    decode: (wire, path) => {
      const fields = fieldsOf(wire, path);
      const kind = String(fields[oneof]);
      const variant = known.get(kind);
      if (variant === undefined) throw new WireError(path, `has no known ${oneof}`);
      const rest = beside.decode(wire, path) as object;
      try {
        // What a codec of a message gives is new and nobody else's.
        return Object.assign(variant.codec.decode(fields[kind], variant.path) as object, rest, { kind }) as never;
      } catch (error) {
        throw within(path, error);
      }
    },
  };
}
