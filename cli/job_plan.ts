/** What a job would do if it were submitted now. */
import { basename } from 'node:path';
import { sha256OfReference } from '../shared/bundle/reference.js';
import { formatBytes } from '../shared/text/numbers.js';
import { blocksFor } from '../shared/tree.js';
import type { JobSpec, Node } from '../shared/wire/jobs.js';
import type { JobCode } from './job_code.js';
import { factsText, tableOf } from './output/table.js';

const SHOWN_FILES = 20;

export interface JobPlan {
  readonly file: string;
  readonly spec: JobSpec;
  readonly code: JobCode;
  readonly output: string;
  readonly checkpoints: string;
  /** Undefined when no server was named. */
  readonly nodes: readonly Node[] | undefined;
}

interface WorkerBlock {
  readonly worker: string;
  /** Microbatches lo..lo+length-1 of every step. */
  readonly lo: number;
  readonly length: number;
}

/** Those that are given work. Whether they have what the job needs is not looked at. */
function idleOf(nodes: readonly Node[]): readonly Node[] {
  return nodes.filter(({ state, cordoned }) => state === 'idle' && cordoned === '');
}

/** The blocks that the idle workers would get, as long as nobody is known to be slow. */
function blocksOf(spec: JobSpec, nodes: readonly Node[]): readonly WorkerBlock[] {
  const idle = idleOf(nodes).slice(0, spec.workersMax);
  if (idle.length === 0) return [];
  const blocks = blocksFor(
    spec.microbatches,
    idle.map(() => 1),
  );
  return idle.map(({ worker }, index) => ({ worker, lo: blocks[index]?.lo ?? 0, length: blocks[index]?.length ?? 0 }));
}

export function planJson({ spec, code, output, checkpoints, nodes }: JobPlan): object {
  const { packed, bundle } = code;
  return {
    event: 'plan',
    name: spec.name,
    task: spec.task,
    steps: spec.steps,
    epochs: spec.epochs,
    samples_per_step: spec.batch,
    microbatches: spec.microbatches,
    workers_min: spec.workersMin,
    workers_max: spec.workersMax,
    blocks: nodes === undefined ? null : blocksOf(spec, nodes),
    code:
      packed === undefined
        ? { folder: bundle }
        : { sha256: packed.sha256, packed_bytes: packed.archive.length, bytes: packed.bytes, files: packed.files },
    output,
    checkpoints,
  };
}

export function planText(plan: JobPlan): string {
  const { file, spec, code, output, checkpoints, nodes } = plan;
  const facts = factsText([
    ['job', `${spec.name}, from ${basename(file)}`],
    ['task', spec.task],
    ['length', spec.steps === undefined ? `${spec.epochs} epochs of the data set` : `${spec.steps} steps`],
    ['step', `${spec.batch} samples in ${spec.microbatches} microbatches of ${spec.batch / spec.microbatches}`],
    ['workers', `${spec.workersMin} to ${spec.workersMax}; ${workersText(spec, nodes)}`],
    ['code', codeText(code)],
    ['saved', `${savedText(spec)} to ${checkpoints}`],
    ['model', `to ${output}`],
  ]);
  return [facts, ...blockTable(plan), ...fileTable(code), 'nothing was submitted'].join('\n');
}

function workersText(spec: JobSpec, nodes: readonly Node[] | undefined): string {
  if (nodes === undefined) return 'no server was named, so who is there is not known';
  const idle = idleOf(nodes).length;
  const there = `${nodes.length} are there, ${idle} of them idle`;
  return idle < spec.workersMin ? `${there}: it would wait for workers` : there;
}

function codeText({ bundle, packed }: JobCode): string {
  if (packed === undefined) return sha256OfReference(bundle) === undefined ? `the shared folder ${bundle}` : bundle;
  const { archive, bytes, files, sha256 } = packed;
  return `${files.length} files, ${formatBytes(bytes)}, packed ${formatBytes(archive.length)}, sha256 ${sha256}`;
}

function savedText({ checkpointEvery, checkpointMinutes }: JobSpec): string {
  const periods = [
    ...(checkpointEvery > 0 ? [`every ${checkpointEvery} steps`] : []),
    ...(checkpointMinutes > 0 ? [`every ${checkpointMinutes} minutes`] : []),
  ];
  return periods.length === 0 ? 'only when it is told to stop,' : periods.join(' and ');
}

function blockTable({ spec, nodes }: JobPlan): readonly string[] {
  const blocks = nodes === undefined ? [] : blocksOf(spec, nodes);
  if (blocks.length === 0) return [];
  const rows = blocks.map(({ worker, lo, length }) => [worker, blockText(lo, length), String(length)]);
  return ['', tableOf(['worker', 'microbatches', 'count'], rows)];
}

function blockText(lo: number, length: number): string {
  return length === 0 ? 'none' : `${lo} to ${lo + length - 1}`;
}

function fileTable({ packed }: JobCode): readonly string[] {
  if (packed === undefined) return [];
  const largest = [...packed.files].sort((left, right) => right.bytes - left.bytes).slice(0, SHOWN_FILES);
  const more = packed.files.length - largest.length;
  const table = tableOf(
    ['file', 'size'],
    largest.map(({ name, bytes }) => [name, formatBytes(bytes)]),
  );
  return ['', table, ...(more > 0 ? [`and ${more} smaller ones`] : []), ''];
}
