import { describe, expect, it } from 'vitest';
import { parseJobSpec, validateJobSpec } from '../../shared/job_spec.js';
import { JobSpecError } from '../../shared/job_spec_error.js';

const minimal = ['version: 1', 'name: first', 'task: train.py:Train', 'steps: 10', 'batch: 12', 'microbatches: 4'];

/** The minimal job with some of its lines replaced by key, and others added. */
function jobWith(...lines: readonly string[]): string {
  const keyOf = (line: string): string => line.slice(0, line.indexOf(':'));
  const replaced = new Set(lines.map(keyOf));
  return [...minimal.filter((line) => !replaced.has(keyOf(line))), ...lines].join('\n');
}

function refusalOf(text: string): JobSpecError {
  try {
    parseJobSpec(text);
  } catch (error) {
    if (error instanceof JobSpecError) return error;
    throw error;
  }
  throw new Error('the job was accepted');
}

describe('a job file', () => {
  it('gets its defaults', () => {
    expect(parseJobSpec(jobWith())).toEqual({
      version: 1,
      name: 'first',
      task: 'train.py:Train',
      seed: 0,
      steps: 10,
      epochs: undefined,
      batch: 12,
      microbatches: 4,
      workersMin: 1,
      workersMax: 4,
      tail: 'drop',
      shuffle: true,
      precision: 'fp32',
      exchange: 'fp32',
      clipGradNorm: undefined,
      onNonfinite: 'fail',
      evaluateEvery: 0,
      digestEvery: 0,
      threads: 1,
      determinism: 'strict',
      paramsJson: '{}',
      checkpointEvery: 0,
      checkpointMinutes: 10,
      checkpointKeep: 2,
      checkpointKeepEvery: 0,
      maxRestores: 100,
      initFrom: undefined,
      priority: 0,
      needsCpus: 0,
      needsGpus: 0,
      needsMemoryGib: 0,
      where: [],
    });
  });

  it('keeps every key that is given', () => {
    const spec = parseJobSpec(
      [
        'version: 1',
        'name: a.b-c_9',
        'task: models/gpt.py:CharGPT',
        'seed: 9007199254740991',
        'epochs: 3',
        'batch: 64',
        'microbatches: 8',
        'workers: {min: 2, max: 6}',
        'data: {tail: keep, shuffle: false}',
        'precision: bf16',
        'exchange: bf16',
        'clip_grad_norm: 1',
        'on_nonfinite: skip',
        'evaluate_every: 100',
        'digest_every: 10',
        'threads: 2',
        'determinism: loose',
        'checkpoint: {every: 50, minutes: 0, keep: 3, keep_every: 1000}',
        'max_restores: 7',
        'init_from: runs/first/model.safetensors',
        'priority: -5',
        'needs: {cpus: 8, gpus: 1, memory_gib: 32}',
        'where: {zone: [a, b], kind: h100}',
        'params: {width: 128, rate: 3.0e-4, names: [a, b], deep: {on: true, off: null}}',
      ].join('\n'),
    );
    expect(spec).toMatchObject({ seed: 9007199254740991, epochs: 3, workersMin: 2, workersMax: 6, tail: 'keep' });
    expect(spec).toMatchObject({ shuffle: false, clipGradNorm: 1, threads: 2, determinism: 'loose', exchange: 'bf16' });
    expect(spec).toMatchObject({ checkpointEvery: 50, checkpointMinutes: 0, checkpointKeep: 3 });
    expect(spec).toMatchObject({ checkpointKeepEvery: 1000, maxRestores: 7, initFrom: 'runs/first/model.safetensors' });
    expect(spec).toMatchObject({ priority: -5, needsCpus: 8, needsGpus: 1, needsMemoryGib: 32 });
    expect(spec.where).toEqual([
      { label: 'zone', values: ['a', 'b'] },
      { label: 'kind', values: ['h100'] },
    ]);
    expect(JSON.parse(spec.paramsJson)).toEqual({
      width: 128,
      rate: 3e-4,
      names: ['a', 'b'],
      deep: { on: true, off: null },
    });
    expect(validateJobSpec(spec)).toBeUndefined();
  });

  it('may repeat a value by an alias', () => {
    const spec = parseJobSpec(jobWith('params: {a: &sizes [1, 2], b: *sizes}'));
    expect(JSON.parse(spec.paramsJson)).toEqual({ a: [1, 2], b: [1, 2] });
  });

  it('names the line', () => {
    expect(refusalOf(jobWith('batch: zero')).message).toMatch(/^job\.yaml:6: batch: must be a whole number/);
  });
});

const cyrillicA = String.fromCodePoint(0x430);
const fullwidthColon = String.fromCodePoint(0xff1a);

const refused: readonly (readonly [string, string, string, RegExp])[] = [
  ['a task path with ..', jobWith('task: ../train.py:Train'), 'task', /must not leave the folder/],
  ['a task path with .. inside', jobWith('task: a/../../train.py:Train'), 'task', /must not leave the folder/],
  ['an absolute task path', jobWith('task: /etc/train.py:Train'), 'task', /not an absolute path/],
  ['a NUL in the file', jobWith('name: a\0b'), '', /NUL/],
  ['a NUL escape in the task', jobWith('task: "train.py\\0:Train"'), 'task', /NUL/],
  ['a NUL escape in the name', jobWith('name: "a\\0"'), 'name', /must be 1 to 63/],
  ['a name of 10 MB', jobWith(`name: ${'x'.repeat(10_000_000)}`), '', /larger than 64 KiB/],
  ['a name of 64 characters', jobWith(`name: ${'x'.repeat(64)}`), 'name', /must be 1 to 63/],
  ['no checkpoint to keep', jobWith('checkpoint: {keep: 0}'), 'checkpoint.keep', /from 1/],
  ['an unknown key of checkpoint', jobWith('checkpoint: {often: true}'), 'checkpoint.often', /is not a known key/],
  ['an empty name', jobWith('name: ""'), 'name', /must be 1 to 63/],
  ['a name that is a path', jobWith('name: ..'), 'name', /must be 1 to 63/],
  ['a look-alike letter in the name', jobWith(`name: ${cyrillicA}bc`), 'name', /not "\\u0430bc"/],
  ['a look-alike letter in the class', jobWith(`task: train.py:Tr${cyrillicA}in`), 'task', /class name of A-Z/],
  ['a look-alike colon in the task', jobWith(`task: train.py${fullwidthColon}Train`), 'task', /names no class/],
  ['a shell command in the name', jobWith('name: "x;rm -rf ."'), 'name', /must be 1 to 63/],
  ['a substitution in the name', jobWith('name: "$(id)"'), 'name', /must be 1 to 63/],
  ['a shell command in the task', jobWith('task: "a.py;rm x.py:Train"'), 'task', /with a file name of/],
  ['a substitution in the task', jobWith('task: "$(id).py:Train"'), 'task', /with a file name of/],
  ['a task without a class', jobWith('task: train.py'), 'task', /names no class/],
  ['a task with an empty class', jobWith('task: "train.py:"'), 'task', /names no class/],
  ['a task without a file', jobWith('task: ":Train"'), 'task', /with a file name of/],
  ['a task that is not Python', jobWith('task: train.so:Train'), 'task', /with a file name of/],
  ['a task that is a number', jobWith('task: 5'), 'task', /must be "file.py:Class"/],
  ['environment variables', jobWith('env: {LD_PRELOAD: /tmp/x.so}'), 'env', /is not a known key/],
  ['PYTHONPATH as a key', jobWith('PYTHONPATH: /tmp'), 'PYTHONPATH', /is not a known key/],
  ['__proto__ as a key', jobWith('__proto__: {name: x}'), '__proto__', /is not a known key/],
  ['__proto__ in params', jobWith('params: {a: {__proto__: {b: 1}}}'), 'params.a.__proto__', /not allowed/],
  ['a merge key', jobWith('<<: {seed: 1}'), '"<<"', /is not a known key/],
  [
    'a merge key in params',
    jobWith('params: {base: &b {lr: 1}, a: {<<: *b}}'),
    'params.a.<<',
    /write out what it merges/,
  ],
  ['NaN as a number', jobWith('clip_grad_norm: .nan'), 'clip_grad_norm', /not a finite number/],
  ['NaN as text', jobWith('batch: NaN'), 'batch', /whole number/],
  ['infinity', jobWith('clip_grad_norm: .inf'), 'clip_grad_norm', /not a finite number/],
  ['a number beyond doubles', jobWith('params: {a: 1e999}'), 'params.a', /not a finite number/],
  ['-0', jobWith('seed: -0'), 'seed', /is -0/],
  ['-0.0 in params', jobWith('params: {a: -0.0}'), 'params.a', /is -0/],
  ['2^53 + 1', jobWith('seed: 9007199254740993'), 'seed', /beyond 2\^53 - 1/],
  ['2^53 + 1 in params', jobWith('params: {a: [9007199254740993]}'), 'params.a[0]', /beyond 2\^53 - 1/],
  ['a negative seed', jobWith('seed: -1'), 'seed', /whole number from 0/],
  ['a fractional batch', jobWith('batch: 1.5'), 'batch', /whole number/],
  ['zero steps', jobWith('steps: 0'), 'steps', /whole number from 1/],
  ['zero clipping', jobWith('clip_grad_norm: 0'), 'clip_grad_norm', /above 0/],
  ['zero workers', jobWith('workers: {min: 0}'), 'workers.min', /whole number from 1/],
  ['zero workers at most', jobWith('workers: {max: 0}'), 'workers.max', /whole number from 1/],
  ['10^9 workers', jobWith('workers: {max: 1000000000}'), 'workers.max', /whole number from 1 to 4096/],
  ['more workers than microbatches', jobWith('workers: {max: 5}'), 'workers.max', /at most microbatches \(4\)/],
  ['a minimum above microbatches', jobWith('workers: {min: 5}'), 'workers.min', /at most microbatches \(4\)/],
  ['a minimum above the maximum', jobWith('workers: {min: 3, max: 2}'), 'workers.min', /at most workers.max \(2\)/],
  ['workers as a number', jobWith('workers: 3'), 'workers', /a map with the keys min, max/],
  ['microbatches that do not divide', jobWith('microbatches: 5'), 'microbatches', /12 is not a multiple of 5/],
  ['too many microbatches', jobWith('microbatches: 8192'), 'microbatches', /from 1 to 4096/],
  ['neither steps nor epochs', minimal.filter((line) => !line.startsWith('steps')).join('\n'), 'steps', /either/],
  ['steps and epochs', jobWith('epochs: 1'), 'epochs', /together with steps/],
  ['a priority beyond all', jobWith('priority: 101'), 'priority', /from -100 to 100/],
  ['an unknown need', jobWith('needs: {tpus: 1}'), 'needs.tpus', /did you mean/],
  ['a label that is none', jobWith('where: {"a b": c}'), 'where."a b"', /is no label/],
  ['a label without a value', jobWith('where: {zone: []}'), 'where.zone', /a value, or a list of 1 to 64/],
  ['an unknown version', jobWith('version: 2'), 'version', /the only known version/],
  ['a version as text', jobWith('version: "1"'), 'version', /the only known version/],
  ['no version', minimal.slice(1).join('\n'), 'version', /is missing/],
  ['no task', minimal.filter((line) => !line.startsWith('task')).join('\n'), 'task', /is missing/],
  ['no batch', minimal.filter((line) => !line.startsWith('batch')).join('\n'), 'batch', /is missing/],
  [
    'a slip in a key',
    jobWith('microbatchs: 4').replace('microbatches: 4\n', ''),
    'microbatchs',
    /did you mean microbatches\?/,
  ],
  ['a slip in a nested key', jobWith('data: {tial: keep}'), 'data.tial', /did you mean tail\?/],
  ['an unknown choice', jobWith('precision: fp16'), 'precision', /must be fp32 or bf16/],
  ['an unknown type to exchange', jobWith('exchange: int8'), 'exchange', /must be fp32 or bf16/],
  ['text for a flag', jobWith('data: {shuffle: "yes"}'), 'data.shuffle', /true or false/],
  ['params as a list', jobWith('params: [1]'), 'params', /must be a map/],
  ['a key that is not text', jobWith('params: {1: 2}'), 'params', /key that is not text/],
  ['10^5 nested levels', jobWith(`params: ${'['.repeat(100_000)}`), '', /larger than 64 KiB/],
  ['open levels', jobWith(`params: ${'['.repeat(60_000)}`), '', /nested more than 16/],
  ['closed levels', jobWith(`params: ${'['.repeat(30_000)}${']'.repeat(30_000)}`), '', /nested more than 16/],
  ['levels of maps', jobWith(`params: ${'{a: '.repeat(10_000)}1${'}'.repeat(10_000)}`), '', /nested more than 16/],
  ['levels of block lists', jobWith(`params:\n  ${'- '.repeat(30_000)}x`), '', /nested more than 16/],
  [
    '17 levels',
    jobWith(`params: {a: ${'['.repeat(17)}${']'.repeat(17)}}`),
    /^params\.a(\[0\])+$/.source,
    /nested more/,
  ],
  ['an alias bomb', jobWith(`params:\n${aliasBomb(12)}`), '', /more than 10000 values/],
  ['an alias of itself', jobWith('params: {a: &x [*x]}'), /^params\.a(\[0\])+$/.source, /nested more than 16/],
  ['an alias of nothing', jobWith('params: {a: *x}'), 'params.a', /alias of nothing/],
  ['a duplicate key', `${jobWith()}\nseed: 1\nseed: 2`, '', /unique/],
  ['a tag that makes an object', jobWith('params: {a: !!python/object:os.system x}'), '', /tag/],
  ['two documents', `${jobWith()}\n---\nname: y`, '', /more than one YAML document/],
  ['a tab', `${jobWith()}\n\tseed: 1`, '', /is not valid/],
  ['an empty file', '', '', /must be a map/],
  ['a list', '- 1', '', /must be a map/],
];

function aliasBomb(levels: number): string {
  const lines = ['  a0: &a0 [x, x, x, x, x, x, x, x, x, x]'];
  for (let level = 1; level < levels; level++) {
    const previous = Array.from({ length: 10 }, () => `*a${level - 1}`).join(', ');
    lines.push(`  a${level}: &a${level} [${previous}]`);
  }
  return lines.join('\n');
}

describe('a job file is refused, and the key named, for', () => {
  it.each(refused)('%s', (_, text, field, problem) => {
    const refusal = refusalOf(text);
    if (field.startsWith('^')) expect(refusal.field).toMatch(new RegExp(field));
    else expect(refusal.field).toBe(field);
    expect(refusal.problem).toMatch(problem);
    expect(refusal.message.length).toBeLessThan(400);
    expect(refusal.message).toMatch(/^job\.yaml(:\d+)?: [\x20-\x7e]+$/);
  });

  it('a duplicate key, with its line', () => {
    expect(refusalOf(`${jobWith()}\nseed: 1\nseed: 2`).line).toBe(8);
  });
});

describe('a spec from the wire', () => {
  const good = parseJobSpec(jobWith());

  it('is accepted when it came from a good file', () => {
    expect(validateJobSpec(good)).toBeUndefined();
  });

  it.each([
    ['name', { ...good, name: '../x' }],
    ['version', { ...good, version: 2 }],
    ['task', { ...good, task: '/x.py:A' }],
    ['microbatches', { ...good, microbatches: 5 }],
    ['workers.max', { ...good, workersMax: 5 }],
    ['workers.min', { ...good, workersMin: 0 }],
    ['steps', { ...good, steps: undefined }],
    ['epochs', { ...good, epochs: 2 }],
    ['clip_grad_norm', { ...good, clipGradNorm: Number.NaN }],
    ['params', { ...good, paramsJson: '[1]' }],
    ['params', { ...good, paramsJson: '{' }],
    ['params', { ...good, paramsJson: `{"a":${'['.repeat(30_000)}${']'.repeat(30_000)}}` }],
    ['params.a', { ...good, paramsJson: '{"a":1e999}' }],
    ['params.__proto__', { ...good, paramsJson: '{"__proto__":{}}' }],
  ])('is refused for its %s', (field, spec) => {
    expect(validateJobSpec(spec)?.field).toBe(field);
  });
});
