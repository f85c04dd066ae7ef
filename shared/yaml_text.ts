/**
 * Reads YAML that may come from anyone: bounded in size, depth and number of values, no tags beyond the core schema, no
 * duplicate keys, and no number that would silently become another one.
 */
import { isAlias, isMap, isScalar, isSeq, Lexer, LineCounter, type Node, Parser, parseDocument } from 'yaml';

const MAX_BYTES = 65_536;
const MAX_VALUES = 10_000;
const MAX_DEPTH = 16;
/** The parser keeps up to three tokens for each level of nesting. */
const MAX_PARSER_STACK = 3 * MAX_DEPTH + 3;

/** What is wrong with a file, and where: `field` is the path of a key, `line` counts from 1. */
export class YamlError extends Error {
  constructor(
    readonly problem: string,
    readonly field = '',
    readonly line?: number,
  ) {
    super(field === '' ? problem : `${field}: ${problem}`);
    this.name = 'YamlError';
  }
}

export type YamlValue = string | number | boolean | null | readonly YamlValue[] | YamlMap;
/** Made without a prototype, so that no key of the file can be mistaken for a property of Object. */
export interface YamlMap {
  readonly [key: string]: YamlValue;
}

export interface YamlFile {
  readonly root: YamlMap;
  /** Line of a key, named by its path with dots, for example "data.tail". */
  lineOf(field: string): number | undefined;
}

export function joinField(parent: string, key: string | number): string {
  if (typeof key === 'number') return `${parent}[${key}]`;
  return parent === '' ? key : `${parent}.${key}`;
}

/** Text for an error message: short, and with every character outside printable ASCII escaped. */
export function quoted(value: string): string {
  const shown = value.length > 60 ? `${value.slice(0, 60)}...` : value;
  return JSON.stringify(shown).replace(
    /[^\x20-\x7e]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** yaml composes nested values recursively, and V8 can die of a deep stack; its parser does not recurse, so that one goes first. */
function refuseDeepNesting(source: string): void {
  const parser = new Parser();
  for (const lexeme of new Lexer().lex(source)) {
    for (const _ of parser.next(lexeme)) {
      // Only the parser's stack matters here.
    }
    if (parser.stack.length > MAX_PARSER_STACK) throw new YamlError(`is nested more than ${MAX_DEPTH} levels deep`);
  }
}

class Reader {
  readonly lines = new Map<string, number>();
  private values = 0;

  constructor(
    private readonly lineAt: (node: unknown) => number | undefined,
    private readonly resolve: (node: Node) => Node | undefined,
  ) {}

  read(node: unknown, field: string, depth: number): YamlValue {
    if (depth > MAX_DEPTH) throw new YamlError(`is nested more than ${MAX_DEPTH} levels deep`, field);
    this.values += 1;
    if (this.values > MAX_VALUES) throw new YamlError(`has more than ${MAX_VALUES} values`);
    if (isAlias(node)) return this.readAlias(node, field, depth);
    if (isMap(node)) {
      const map: Record<string, YamlValue> = Object.create(null);
      for (const pair of node.items) {
        const key = this.readKey(pair.key, field);
        const path = joinField(field, key);
        const line = this.lineAt(pair.key);
        if (line !== undefined) this.lines.set(path, line);
        map[key] = this.read(pair.value, path, depth + 1);
      }
      return map;
    }
    if (isSeq(node)) return node.items.map((item, index) => this.read(item, joinField(field, index), depth + 1));
    if (isScalar(node)) return this.readScalar(node.value, node.source, field, this.lineAt(node));
    return null;
  }

  private readAlias(node: Node, field: string, depth: number): YamlValue {
    const target = this.resolve(node);
    if (target === undefined) throw new YamlError('is an alias of nothing', field, this.lineAt(node));
    return this.read(target, field, depth + 1);
  }

  private readKey(node: unknown, field: string): string {
    if (isScalar(node) && typeof node.value === 'string') return node.value;
    throw new YamlError('has a key that is not text', field, this.lineAt(node));
  }

  private readScalar(value: unknown, source: string | undefined, field: string, line: number | undefined): YamlValue {
    if (typeof value === 'string' || typeof value === 'boolean' || value === null) return value;
    const number = Number(value);
    if (!Number.isFinite(number)) throw new YamlError('is not a finite number', field, line);
    if (number === 0 && source?.startsWith('-')) throw new YamlError('is -0; write 0', field, line);
    if (typeof value === 'bigint' && !Number.isSafeInteger(number)) {
      throw new YamlError('is beyond 2^53 - 1, where whole numbers stop being exact', field, line);
    }
    return number;
  }
}

/** Parses a file whose top level is a map. */
export function parseYaml(source: string): YamlFile {
  if (Buffer.byteLength(source) > MAX_BYTES) throw new YamlError(`is larger than ${MAX_BYTES / 1024} KiB`);
  const nul = source.indexOf('\0');
  if (nul >= 0) throw new YamlError('contains a NUL character', '', source.slice(0, nul).split('\n').length);
  refuseDeepNesting(source);
  const counter = new LineCounter();
  const lineAtOffset = (offset: number): number => counter.linePos(offset).line;
  const document = parseDocument(source, {
    schema: 'core',
    intAsBigInt: true,
    prettyErrors: false,
    lineCounter: counter,
  });
  const fault = document.errors[0] ?? document.warnings[0];
  if (fault !== undefined) {
    const problem = fault.code === 'MULTIPLE_DOCS' ? 'has more than one YAML document' : fault.message;
    throw new YamlError(`is not valid: ${problem}`, '', lineAtOffset(fault.pos[0]));
  }
  const reader = new Reader(
    (node) => {
      const start = isScalar(node) || isMap(node) || isSeq(node) || isAlias(node) ? node.range?.[0] : undefined;
      return start === undefined ? undefined : lineAtOffset(start);
    },
    (node) => (isAlias(node) ? node.resolve(document) : undefined),
  );
  if (!isMap(document.contents)) throw new YamlError('must be a map of keys and values');
  const root = reader.read(document.contents, '', 0);
  if (root === null || typeof root !== 'object' || isList(root))
    throw new YamlError('must be a map of keys and values');
  return { root, lineOf: (field) => reader.lines.get(field) };
}

export function isList(value: YamlValue): value is readonly YamlValue[] {
  return Array.isArray(value);
}
