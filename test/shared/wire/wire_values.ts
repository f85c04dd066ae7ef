/** Random wire values made from the .proto descriptors, not from the codecs, so that each checks the other. */
import fc from 'fast-check';
import { packageDefinition } from '../../../shared/wire/services.js';

/** Characters of the shortest of the texts that the codecs bound. */
const LEAST_BOUND = 16;

/** Of the doubles. */
const MAY_BE_INFINITE: ReadonlySet<string> = new Set(['loss', 'weight', 'gradNorm', 'grad_norm']);

interface Field {
  readonly name: string;
  readonly label: string;
  readonly type: string;
  readonly typeName: string;
  readonly oneofIndex: number;
  readonly proto3Optional: boolean;
}

interface MessageType {
  readonly field: readonly Field[];
  readonly oneofDecl: readonly { readonly name: string }[];
  readonly nestedType: readonly (MessageType & { readonly name: string })[];
  readonly value?: readonly { readonly name: string }[];
}

function typeOf(name: string): MessageType {
  const definition = packageDefinition[name];
  if (definition === undefined || !('type' in definition)) throw new Error(`no type ${name}`);
  return definition.type as unknown as MessageType;
}

function resolve(typeName: string, owner: string): string {
  const packages = ['', 'jobs.', 'bundles.', 'session.', 'peer.', 'identity.'];
  const scopes = packages.map((name) => `lockstep.${name}`);
  const candidates = scopes.map((scope) => scope + typeName);
  const found = candidates.find((name) => packageDefinition[name] !== undefined);
  if (found === undefined) throw new Error(`${typeName} in ${owner} is not known`);
  return found;
}

/** proto-loader names fields in lowerCamelCase. */
function camel(name: string): string {
  return name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

function scalar(type: string): fc.Arbitrary<unknown> {
  switch (type) {
    case 'TYPE_STRING':
      // A grapheme may be many characters.
      return fc.string({ maxLength: 4, unit: 'grapheme' }).filter((text) => text.length <= LEAST_BOUND);
    case 'TYPE_BOOL':
      return fc.boolean();
    case 'TYPE_UINT32':
      return fc.integer({ min: 0, max: 0xffffffff });
    case 'TYPE_SINT32':
      return fc.integer({ min: -0x7fffffff, max: 0x7fffffff });
    case 'TYPE_UINT64':
      return fc.oneof(fc.maxSafeNat(), fc.constant(Number.MAX_SAFE_INTEGER));
    case 'TYPE_DOUBLE':
      return fc.double({ noNaN: true, min: 0, max: 1e12 });
    case 'TYPE_BYTES':
      return fc.uint8Array({ maxLength: 32 }).map((bytes) => Buffer.from(bytes));
    default:
      throw new Error(`no values for ${type}`);
  }
}

function oneValue(field: Field, owner: string): fc.Arbitrary<unknown> {
  if (field.type === 'TYPE_ENUM') {
    const names = (typeOf(resolve(field.typeName, owner)).value ?? []).map((value) => value.name);
    return fc.constantFrom(...names.filter((name) => !name.endsWith('_UNSPECIFIED')));
  }
  if (field.type === 'TYPE_MESSAGE') return wireValues(resolve(field.typeName, owner));
  return MAY_BE_INFINITE.has(field.name) ? fc.double({ noNaN: true }) : scalar(field.type);
}

function fieldValues(field: Field, owner: string): fc.Arbitrary<unknown> {
  const entry = typeOf(owner).nestedType.find((type) => field.typeName.endsWith(type.name));
  if (entry !== undefined) {
    const [, value] = entry.field;
    if (value === undefined) throw new Error(`${field.name} is no map`);
    return fc.dictionary(fc.stringMatching(/^[a-z]{1,8}$/), oneValue(value, owner), { maxKeys: 4 });
  }
  if (field.label === 'LABEL_REPEATED') return fc.array(oneValue(field, owner), { maxLength: 3 });
  return oneValue(field, owner);
}

/** A value as proto-loader would give it, with every field set, and one variant of each oneof. */
export function wireValues(name: string): fc.Arbitrary<Record<string, unknown>> {
  const { field: fields, oneofDecl } = typeOf(name);
  const oneof = oneofDecl.find((decl) => !decl.name.startsWith('_'))?.name;
  const inOneof = (field: Field) =>
    oneof !== undefined &&
    !field.proto3Optional &&
    oneofDecl[field.oneofIndex]?.name === oneof &&
    isMember(name, field);
  const plain = fields.filter((field) => !inOneof(field));
  const base = fc.record(
    Object.fromEntries(plain.map((field) => [camel(field.name), fc.oneof(fieldValues(field, name))])),
  );
  if (oneof === undefined) return base;
  const variants = fields.filter(inOneof);
  const chosen = fc.oneof(
    ...variants.map((field) =>
      oneValue(field, name).map((value) => ({ [oneof]: camel(field.name), [camel(field.name)]: value })),
    ),
  );
  return fc.tuple(base, chosen).map(([beside, variant]) => ({ ...beside, ...variant }));
}

/** The descriptor of a field outside any oneof has index 0 as well; here oneofs consist of messages only. */
function isMember(owner: string, field: Field): boolean {
  return field.type === 'TYPE_MESSAGE' && field.label !== 'LABEL_REPEATED' && owner !== '';
}
