/** Writes and reads manifest.json. What is read may come from anyone: its size is bounded and every number is checked against the others. */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { check, strictMap, textLike, wholeNumber } from '../schema.js';
import { canonicalJson } from './canonical_json.js';
import { BadHeader, type ImageHeader, parseImageHeader } from './image_header.js';
import type { CheckpointDescription, Manifest, ManifestShard, ShardFacts } from './manifest.js';
import { MANIFEST_FILE, MAX_SHARDS, shardOfFile } from './names.js';
import { cutIntoRuns, shardHeader } from './shard_plan.js';

const FORMAT = 'lockstep checkpoint';
const VERSION = 1;
/** The image's header is in it as JSON text, in which each of its characters may take two. */
export const MAX_MANIFEST_BYTES = 80 * 2 ** 20;
const MAX_TEXT_CHARACTERS = 4096;
const BODY_END = '\n}';
const DIGEST_LINE_BYTES = digestLine(Buffer.alloc(0)).length;
const MAX_NUMBER = Number.MAX_SAFE_INTEGER;

/** The message goes on after the file's name, or after "the manifest": "has shards[1].at, which must be ...". */
export class BadManifest extends Error {
  constructor(readonly problem: string) {
    super(problem);
    this.name = 'BadManifest';
  }
}

const sha256Text = () => textLike(/^[0-9a-f]{64}$/, 'a sha256 in lower-case hexadecimal digits');
const anyText = () => textLike(new RegExp(`^[^]{0,${MAX_TEXT_CHARACTERS}}$`), 'a text');
const count = () => wholeNumber(0, MAX_NUMBER);

const versionSchema = z.object({ format: z.literal(FORMAT), version: z.number() });
const manifestSchema = strictMap({
  format: z.literal(FORMAT),
  version: z.literal(VERSION),
  job: anyText(),
  name: anyText(),
  step: count(),
  epoch: count(),
  step_of_epoch: count(),
  spec: z.custom<object>(isPlainObject, { error: 'must be a map' }),
  spec_digest: sha256Text(),
  dataset: strictMap({ digest: anyText(), length: count() }),
  torch: anyText(),
  fingerprint: anyText(),
  loss: z.number().nullable(),
  samples_lost: count(),
  samples_repeated: count(),
  created_ms: count(),
  state: strictMap({ bytes: count(), sha256: sha256Text(), header: z.string() }),
  digest: sha256Text(),
  shards: z
    .array(
      strictMap({
        file: textLike(/^[A-Za-z0-9.-]{1,120}$/, 'the name of a shard'),
        bytes: count(),
        sha256: sha256Text(),
        at: count(),
        length: count(),
      }),
    )
    .min(1, { error: 'must have at least one shard' })
    .max(MAX_SHARDS, { error: `must have at most ${MAX_SHARDS} shards` }),
});
type ManifestJson = z.output<typeof manifestSchema>;

/** Throws BadManifest when the facts of the shards do not fit the image. */
export function makeManifest(
  description: CheckpointDescription,
  state: { readonly header: ImageHeader; readonly sha256: string },
  facts: readonly ShardFacts[],
): Manifest {
  const runs = cutIntoRuns(state.header, facts.length);
  const shards = [...facts]
    .sort((a, b) => a.shard - b.shard)
    .map((shard, index) => ({ ...shard, ...(runs[index] ?? { at: 0, length: 0 }) }));
  const specJson = canonicalSpec(description.specJson);
  const manifest: Manifest = {
    description: { ...description, specJson },
    specDigest: sha256(specJson),
    header: state.header,
    stateSha256: state.sha256,
    shards,
  };
  checkShards(manifest);
  return manifest;
}

/** The same manifest always gives the same bytes. */
export function manifestText(manifest: Manifest): Buffer<ArrayBuffer> {
  const { description, header, shards } = manifest;
  const spec: unknown = JSON.parse(description.specJson);
  const json = {
    format: FORMAT,
    version: VERSION,
    job: description.job,
    name: description.name,
    step: description.committed,
    epoch: description.epoch,
    step_of_epoch: description.stepOfEpoch,
    spec,
    spec_digest: manifest.specDigest,
    dataset: { digest: description.datasetDigest, length: description.datasetLength },
    torch: description.torch,
    fingerprint: description.fingerprint,
    loss: description.loss ?? null,
    samples_lost: description.samplesLost,
    samples_repeated: description.samplesRepeated,
    created_ms: description.createdMs,
    state: { bytes: header.bytes, sha256: manifest.stateSha256, header: header.text },
    shards: shards.map(({ file, bytes, sha256, at, length }) => ({ file, bytes, sha256, at, length })),
  };
  // Without the closing brace, instead of which the digest of all before it follows.
  const body = Buffer.from(JSON.stringify(json, null, 2).slice(0, -BODY_END.length), 'utf8');
  const text = Buffer.concat([body, digestLine(body)]);
  if (text.length > MAX_MANIFEST_BYTES) throw new BadManifest(`is longer than ${MAX_MANIFEST_BYTES} bytes`);
  return text;
}

/** Throws BadManifest. */
export function parseManifest(text: Buffer): Manifest {
  const json = checkedJson(text);
  const specJson = checkedSpec(json);
  const header = checkedHeader(json);
  const manifest: Manifest = {
    description: {
      job: json.job,
      name: json.name,
      committed: json.step,
      epoch: json.epoch,
      stepOfEpoch: json.step_of_epoch,
      specJson,
      datasetDigest: json.dataset.digest,
      datasetLength: json.dataset.length,
      torch: json.torch,
      fingerprint: json.fingerprint,
      loss: json.loss ?? undefined,
      samplesLost: json.samples_lost,
      samplesRepeated: json.samples_repeated,
      createdMs: json.created_ms,
    },
    specDigest: json.spec_digest,
    header,
    stateSha256: json.state.sha256,
    shards: json.shards.map((shard, index) => ({ shard: index, ...shard })),
  };
  checkShards(manifest);
  return manifest;
}

function checkedJson(text: Buffer): ManifestJson {
  if (text.length > MAX_MANIFEST_BYTES) throw new BadManifest(`is longer than ${MAX_MANIFEST_BYTES} bytes`);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(text));
  } catch {
    throw new BadManifest('is not JSON');
  }
  const version = versionSchema.safeParse(value);
  if (!version.success) throw new BadManifest(`is not the manifest of a ${FORMAT}`);
  if (version.data.version !== VERSION) {
    throw new BadManifest(
      `has version ${version.data.version}; this Lockstep reads version ${VERSION}, use a newer one`,
    );
  }
  checkDigest(text);
  const checked = check(manifestSchema, value);
  if ('problem' in checked) throw new BadManifest(`has ${checked.problem.field}, which ${checked.problem.problem}`);
  return checked.value;
}

/** The digest covers every byte, so that nothing in the file can change without being found. */
function checkDigest(text: Buffer): void {
  const body = text.subarray(0, Math.max(0, text.length - DIGEST_LINE_BYTES));
  if (!text.subarray(body.length).equals(digestLine(body))) {
    throw new BadManifest('is damaged or was changed: its digest is not that of its content');
  }
}

function digestLine(body: Buffer): Buffer {
  const digest = createHash('sha256').update(body).digest('hex');
  return Buffer.from(`,\n  "digest": "${digest}"${BODY_END}\n`, 'utf8');
}

function checkedSpec(json: ManifestJson): string {
  const specJson = canonicalSpec(JSON.stringify(json.spec));
  if (sha256(specJson) !== json.spec_digest) throw new BadManifest('has spec_digest, which is not the digest of spec');
  return specJson;
}

function checkedHeader(json: ManifestJson): ImageHeader {
  let header: ImageHeader;
  try {
    header = parseImageHeader(Buffer.from(json.state.header, 'utf8'));
  } catch (error) {
    if (error instanceof BadHeader) throw new BadManifest(`has state.header, which ${error.problem}`);
    throw error;
  }
  if (header.bytes !== json.state.bytes) {
    throw new BadManifest(`has state.bytes ${json.state.bytes}, but its header describes ${header.bytes}`);
  }
  return header;
}

function checkShards({ header, shards }: Manifest): void {
  let at = header.dataAt;
  for (const [index, shard] of shards.entries()) {
    const key = `shards[${index}]`;
    checkName(key, shard, shards.length);
    if (shard.at !== at) throw new BadManifest(`has ${key}.at ${shard.at}, where the run before it ends at ${at}`);
    at += shard.length;
  }
  if (at !== header.bytes)
    throw new BadManifest(`has shards that end at ${at}, but the state has ${header.bytes} bytes`);
  for (const [index, shard] of shards.entries()) checkBorders(`shards[${index}]`, shard, header, shards);
}

function checkName(key: string, shard: ManifestShard, shards: number): void {
  const named = shardOfFile(shard.file);
  if (named?.shard !== shard.shard || named.shards !== shards) {
    throw new BadManifest(`has ${key}.file ${shard.file}, which is not the name of shard ${shard.shard} of ${shards}`);
  }
}

function checkBorders(key: string, shard: ManifestShard, header: ImageHeader, shards: readonly ManifestShard[]): void {
  const ends = new Set(header.tensors.map(({ end }) => header.dataAt + end)).add(header.dataAt);
  if (!ends.has(shard.at + shard.length)) throw new BadManifest(`has ${key}, which ends inside a tensor`);
  const bytes = shardHeader(header, shards, shard.shard).length + shard.length;
  if (shard.bytes !== bytes) {
    throw new BadManifest(`has ${key}.bytes ${shard.bytes}, but a file with these tensors has ${bytes}`);
  }
}

function canonicalSpec(json: string): string {
  try {
    const spec: unknown = JSON.parse(json);
    if (isPlainObject(spec)) return canonicalJson(spec);
  } catch (error) {
    throw new BadManifest(`has spec, which ${error instanceof RangeError ? error.message : 'is not JSON'}`);
  }
  throw new BadManifest('has spec, which must be a map');
}

function isPlainObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

/** For messages: where the manifest of a checkpoint lies. */
export function manifestPath(checkpoint: string): string {
  return `${checkpoint}/${MANIFEST_FILE}`;
}
