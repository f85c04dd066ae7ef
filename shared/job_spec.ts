/** job.yaml: what a job may say, and the check that both the command line and the coordinator make. */
import { z } from 'zod';
import { CHANGES, concerns, isMap, type JobChange, type KeyMap, withChanges } from './job_changes.js';
import { JobSpecError } from './job_spec_error.js';
import { NAME, NAME_TEXT } from './name.js';
import {
  type Checked,
  check,
  flag,
  labelMap,
  labelText,
  numberAbove,
  oneOf,
  type Problem,
  strictMap,
  textLike,
  wholeNumber,
} from './schema.js';
import type { JobSpec } from './wire/jobs.js';
import { joinField, parseYaml, YamlError, type YamlFile } from './yaml_text.js';

const MAX_PARAMS_CHARACTERS = 65_536;
const MAX_PARAMS_DEPTH = 16;
const MAX_COUNT = 1_000_000_000;
const MAX_BATCH = 1_048_576;
const MAX_MICROBATCHES = 4096;
const MAX_THREADS = 256;
const MAX_TASK_LENGTH = 512;
const MAX_MINUTES = 1_000_000;
const MAX_KEPT = 100;
const MAX_RESTORES = 1_000_000;
const MOST_PRIORITY = 100;
const DEFAULT_CHECKPOINTS = { every: 0, minutes: 10, keep: 2, keep_every: 0 };

const name = textLike(NAME, NAME_TEXT);

const TASK_FILE = /^[A-Za-z0-9_][A-Za-z0-9_.-]*(\/[A-Za-z0-9_][A-Za-z0-9_.-]*)*\.py$/;
const TASK_CLASS = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** Splits "file.py:Class". */
export function splitTask(task: string): { readonly file: string; readonly className: string } {
  const colon = task.lastIndexOf(':');
  return colon < 0 ? { file: task, className: '' } : { file: task.slice(0, colon), className: task.slice(colon + 1) };
}

function problemOfTask(task: string): string | undefined {
  if (task.length > MAX_TASK_LENGTH) return `is longer than ${MAX_TASK_LENGTH} characters`;
  if (task.includes('\0')) return 'contains a NUL character';
  const { file, className } = splitTask(task);
  if (file.startsWith('/')) return 'must be relative to the folder of the job file, not an absolute path';
  if (file.split('/').includes('..')) return 'must not leave the folder of the job file with ".."';
  if (className === '') return 'names no class; it must be "file.py:Class"';
  if (!TASK_FILE.test(file)) return 'must be "file.py:Class" with a file name of A-Z, a-z, 0-9, ".", "_", "-" and "/"';
  if (!TASK_CLASS.test(className)) return 'must be "file.py:Class" with a class name of A-Z, a-z, 0-9 and "_"';
  return undefined;
}

const taskText = z
  .string({
    error: (issue) =>
      issue.input === undefined ? 'is missing; it must be "file.py:Class"' : 'must be "file.py:Class"',
  })
  .superRefine((task, context) => {
    const problem = problemOfTask(task);
    if (problem !== undefined) context.addIssue({ code: 'custom', message: problem });
  });

/** What keeps a value from being sent as JSON and read back the same. */
function problemOfJson(value: unknown, field: string, depth: number): Problem | undefined {
  if (depth > MAX_PARAMS_DEPTH)
    return { field: 'params', problem: `is nested more than ${MAX_PARAMS_DEPTH} levels deep` };
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) return { field, problem: 'is not a finite number' };
    if (Object.is(value, -0)) return { field, problem: 'is -0; write 0' };
    return undefined;
  }
  if (Array.isArray(value)) {
    return firstProblem(value.map((one, index) => () => problemOfJson(one, joinField(field, index), depth + 1)));
  }
  if (!isMap(value)) return undefined;
  return firstProblem(
    Object.keys(value).map((key) => () => {
      if (key === '__proto__') return { field: joinField(field, key), problem: 'is not allowed as a key' };
      // Whoever writes it means the keys of the other map, and the task would look for them in vain.
      if (key === '<<')
        return { field: joinField(field, key), problem: 'is no key of YAML 1.2; write out what it merges' };
      return problemOfJson(value[key], joinField(field, key), depth + 1);
    }),
  );
}

function firstProblem(checks: readonly (() => Problem | undefined)[]): Problem | undefined {
  for (const one of checks) {
    const problem = one();
    if (problem !== undefined) return problem;
  }
  return undefined;
}

const params = z.custom<KeyMap>(isMap, { error: "must be a map of the task's own settings" });

const MOST_VALUES = 64;
const valuesError = `must be a value, or a list of 1 to ${MOST_VALUES} values`;
/** A list also of a single value that stands alone. */
const labelsOrOne = z.preprocess(
  (value) => (Array.isArray(value) ? value : [value]),
  z.array(labelText).min(1, valuesError).max(MOST_VALUES, valuesError),
);

/** The keys of job.yaml, their bounds and their defaults. */
const jobFile = strictMap({
  version: z.literal(1, {
    error: (issue) => (issue.input === undefined ? 'is missing; it must be 1' : 'must be 1, the only known version'),
  }),
  name,
  task: taskText,
  seed: wholeNumber(0, Number.MAX_SAFE_INTEGER).default(0),
  steps: wholeNumber(1, MAX_COUNT).optional(),
  epochs: wholeNumber(1, MAX_COUNT).optional(),
  batch: wholeNumber(1, MAX_BATCH),
  microbatches: wholeNumber(1, MAX_MICROBATCHES),
  workers: strictMap({
    min: wholeNumber(1, MAX_MICROBATCHES).default(1),
    max: wholeNumber(1, MAX_MICROBATCHES).optional(),
  }).optional(),
  data: strictMap({ tail: oneOf(['drop', 'keep']).default('drop'), shuffle: flag().default(true) }).optional(),
  precision: oneOf(['fp32', 'bf16']).default('fp32'),
  exchange: oneOf(['fp32', 'bf16']).default('fp32'),
  clip_grad_norm: numberAbove(0).optional(),
  on_nonfinite: oneOf(['fail', 'skip']).default('fail'),
  evaluate_every: wholeNumber(0, MAX_COUNT).default(0),
  digest_every: wholeNumber(0, MAX_COUNT).default(0),
  threads: wholeNumber(1, MAX_THREADS).default(1),
  determinism: oneOf(['strict', 'loose']).default('strict'),
  params: params.optional(),
  checkpoint: strictMap({
    every: wholeNumber(0, MAX_COUNT).default(DEFAULT_CHECKPOINTS.every),
    minutes: wholeNumber(0, MAX_MINUTES).default(DEFAULT_CHECKPOINTS.minutes),
    keep: wholeNumber(1, MAX_KEPT).default(DEFAULT_CHECKPOINTS.keep),
    keep_every: wholeNumber(0, MAX_COUNT).default(DEFAULT_CHECKPOINTS.keep_every),
  }).default(DEFAULT_CHECKPOINTS),
  max_restores: wholeNumber(1, MAX_RESTORES).default(100),
  init_from: textLike(/^[^\0\n]{1,4096}$/, 'the path of a checkpoint or of a .safetensors file').optional(),
  priority: wholeNumber(-MOST_PRIORITY, MOST_PRIORITY).default(0),
  needs: strictMap({
    cpus: wholeNumber(0, 4096).default(0),
    gpus: wholeNumber(0, 64).default(0),
    memory_gib: wholeNumber(0, 65_536).default(0),
  }).default({ cpus: 0, gpus: 0, memory_gib: 0 }),
  where: labelMap(labelsOrOne, 'a value, or a list of values').default({}),
});
type JobFile = z.output<typeof jobFile>;

/** What no single key shows. */
function problemOfWhole(file: JobFile): Problem | undefined {
  const { min, max } = file.workers ?? { min: 1 };
  if (file.steps === undefined && file.epochs === undefined) {
    return { field: 'steps', problem: 'is missing; give either steps or epochs' };
  }
  if (file.steps !== undefined && file.epochs !== undefined) {
    return { field: 'epochs', problem: 'cannot be given together with steps; take one of them away (--set epochs=)' };
  }
  if (file.batch % file.microbatches !== 0) {
    return {
      field: 'microbatches',
      problem: `must divide batch: ${file.batch} is not a multiple of ${file.microbatches}`,
    };
  }
  if (max !== undefined && max > file.microbatches) {
    return { field: 'workers.max', problem: `must be at most microbatches (${file.microbatches}), not ${max}` };
  }
  if (min > (max ?? file.microbatches)) {
    const bound = max === undefined ? `microbatches (${file.microbatches})` : `workers.max (${max})`;
    return { field: 'workers.min', problem: `must be at most ${bound}, not ${min}` };
  }
  return file.params === undefined ? undefined : problemOfParams(file.params);
}

function problemOfParams(value: KeyMap): Problem | undefined {
  const problem = problemOfJson(value, 'params', 0);
  if (problem !== undefined) return problem;
  if (JSON.stringify(value).length <= MAX_PARAMS_CHARACTERS) return undefined;
  return { field: 'params', problem: `is longer than ${MAX_PARAMS_CHARACTERS} characters as JSON` };
}

function checkJobFile(value: unknown): Checked<JobFile> {
  const checked = check(jobFile, value);
  if ('problem' in checked) return checked;
  const problem = problemOfWhole(checked.value);
  return problem === undefined ? checked : { problem };
}

function specOf(file: JobFile): JobSpec {
  return {
    version: file.version,
    name: file.name,
    task: file.task,
    seed: file.seed,
    steps: file.steps,
    epochs: file.epochs,
    batch: file.batch,
    microbatches: file.microbatches,
    workersMin: file.workers?.min ?? 1,
    workersMax: file.workers?.max ?? file.microbatches,
    tail: file.data?.tail ?? 'drop',
    shuffle: file.data?.shuffle ?? true,
    precision: file.precision,
    exchange: file.exchange,
    clipGradNorm: file.clip_grad_norm,
    onNonfinite: file.on_nonfinite,
    evaluateEvery: file.evaluate_every,
    digestEvery: file.digest_every,
    threads: file.threads,
    determinism: file.determinism,
    paramsJson: JSON.stringify(file.params ?? {}),
    checkpointEvery: file.checkpoint.every,
    checkpointMinutes: file.checkpoint.minutes,
    checkpointKeep: file.checkpoint.keep,
    checkpointKeepEvery: file.checkpoint.keep_every,
    maxRestores: file.max_restores,
    initFrom: file.init_from,
    priority: file.priority,
    needsCpus: file.needs.cpus,
    needsGpus: file.needs.gpus,
    needsMemoryGib: file.needs.memory_gib,
    where: Object.entries(file.where).map(([label, values]) => ({ label, values })),
  };
}

/** Parses the text of a job file. Throws a JobSpecError that names `file`, the line and the key; or `--set`, where that is to blame. */
export function parseJobSpec(text: string, file = 'job.yaml', changes: readonly JobChange[] = []): JobSpec {
  let yaml: YamlFile;
  try {
    yaml = parseYaml(text);
  } catch (error) {
    if (error instanceof YamlError) throw new JobSpecError(file, error.field, error.problem, error.line);
    throw error;
  }
  return changedFrom(
    yaml.root,
    changes,
    (field, problem) => new JobSpecError(file, field, problem, yaml.lineOf(field)),
  );
}

/** `inFile` blames what is not the fault of the changes. */
function changedFrom(
  root: KeyMap,
  changes: readonly JobChange[],
  inFile: (field: string, problem: string) => JobSpecError,
): JobSpec {
  const checked = checkJobFile(withChanges(root, changes));
  if ('value' in checked) return specOf(checked.value);
  const { field, problem } = checked.problem;
  // Also what only does not fit with what was changed: without the changes the file is right.
  const blamed = concerns(changes, field) || (changes.length > 0 && 'value' in checkJobFile(root));
  throw blamed ? new JobSpecError(CHANGES, field, problem) : inFile(field, problem);
}

/** A spec with changes, checked as a job file is. */
export function changedJobSpec(spec: JobSpec, changes: readonly JobChange[]): JobSpec {
  if (changes.length === 0) return spec;
  // Not by way of text: JSON writes 1e20 in digits, which YAML has for a whole number, and is longer than the file was.
  return changedFrom(jobFileOf(spec), changes, (field, problem) => new JobSpecError(spec.name, field, problem));
}

/** The spec in the words of job.yaml: written to a file, it is the same job. `params` is undefined if it is not a JSON object. */
export function jobFileOf(spec: JobSpec) {
  return {
    version: spec.version,
    name: spec.name,
    task: spec.task,
    seed: spec.seed,
    steps: spec.steps,
    epochs: spec.epochs,
    batch: spec.batch,
    microbatches: spec.microbatches,
    workers: { min: spec.workersMin, max: spec.workersMax },
    data: { tail: spec.tail, shuffle: spec.shuffle },
    precision: spec.precision,
    exchange: spec.exchange,
    clip_grad_norm: spec.clipGradNorm,
    on_nonfinite: spec.onNonfinite,
    evaluate_every: spec.evaluateEvery,
    digest_every: spec.digestEvery,
    threads: spec.threads,
    determinism: spec.determinism,
    params: parsedParams(spec.paramsJson),
    checkpoint: {
      every: spec.checkpointEvery,
      minutes: spec.checkpointMinutes,
      keep: spec.checkpointKeep,
      keep_every: spec.checkpointKeepEvery,
    },
    max_restores: spec.maxRestores,
    init_from: spec.initFrom,
    priority: spec.priority,
    needs: { cpus: spec.needsCpus, gpus: spec.needsGpus, memory_gib: spec.needsMemoryGib },
    where: Object.fromEntries(spec.where.map(({ label, values }) => [label, [...values]])),
  };
}

/** The same check on a spec that came over the wire. Returns what is wrong with it, in the words of job.yaml, or undefined. */
export function validateJobSpec(spec: JobSpec): Problem | undefined {
  const file = jobFileOf(spec);
  if (file.params === undefined) return { field: 'params', problem: 'is not a JSON object' };
  const checked = checkJobFile(file);
  return 'problem' in checked ? checked.problem : undefined;
}

function parsedParams(json: string): KeyMap | undefined {
  if (json.length > MAX_PARAMS_CHARACTERS) return undefined;
  try {
    const value: unknown = JSON.parse(json);
    return isMap(value) ? value : undefined;
  } catch {
    return undefined;
  }
}
