import { describe, expect, it } from 'vitest';
import { parseChange } from '../../shared/job_changes.js';
import { changedJobSpec, parseJobSpec } from '../../shared/job_spec.js';
import { JobSpecError } from '../../shared/job_spec_error.js';

const text = `version: 1
name: x
task: a.py:A
steps: 10
batch: 12
microbatches: 4
params: {lr: 0.1, layers: [1, 2]}
`;
const withSet = (...changes: readonly string[]) => parseJobSpec(text, 'job.yaml', changes.map(parseChange));

describe('a change', () => {
  it.each([
    ['a number', 'batch=24', { batch: 24 }],
    ['a word', 'name=other', { name: 'other' }],
    ['a word that looks like a number', 'name="17"', { name: '17' }],
    ['a nested key', 'data.tail=keep', { tail: 'keep', shuffle: true }],
    ['a nested key beside one that is there', 'params.lr=1e-3', { paramsJson: '{"lr":0.001,"layers":[1,2]}' }],
    ['a list', 'params.layers=[3]', { paramsJson: '{"lr":0.1,"layers":[3]}' }],
    ['a map', 'workers={min: 2, max: 3}', { workersMin: 2, workersMax: 3 }],
    ['a value with an equals sign', 'params.text=a=b', { paramsJson: '{"lr":0.1,"layers":[1,2],"text":"a=b"}' }],
    ['nothing, which takes the key away', 'params=', { paramsJson: '{}' }],
    ['true', 'data.shuffle=false', { shuffle: false }],
  ])('sets %s', (_, change, expected) => {
    expect(withSet(change)).toMatchObject(expected);
  });

  it('is made in the order of the line, and as if the file said so', () => {
    expect(withSet('batch=24', 'batch=36', 'steps=', 'epochs=2')).toMatchObject({
      batch: 36,
      steps: undefined,
      epochs: 2,
    });
  });

  it.each([
    ['an unknown key', 'bach=3', /^--set: bach: is not a known key; did you mean batch\?$/],
    ['an unknown nested key', 'data.tial=keep', /^--set: data\.tial: is not a known key; did you mean tail\?$/],
    ['a value that is not allowed', 'data.tail=cut', /^--set: data\.tail: must be drop or keep$/],
    ['a value of the wrong type', 'batch=many', /^--set: batch: must be a whole number/],
    ['a number that is not exact', 'seed=9007199254740993', /^--set: seed: the value is beyond 2\^53/],
    ['what does not fit the rest', 'microbatches=5', /^--set: microbatches: must divide batch/],
    [
      'what another key does not fit',
      'batch=13',
      /^--set: microbatches: must divide batch: 13 is not a multiple of 4$/,
    ],
    ['a required key that is taken away', 'batch=', /^--set: batch: is missing/],
    ['a key below a number', 'steps.x=1', /^--set: steps: is no map of keys$/],
    ['a key below a list', 'params.layers.x=1', /^--set: params\.layers: is no map of keys$/],
    ['no value', 'batch', /^--set: "batch" is not key=value$/],
    ['no key', '=3', /^--set: "" is not a key/],
    ['a key that is none', 'a b=3', /^--set: "a b" is not a key/],
    ['a line break', 'name=x\nsteps: 3', /^--set: name: has a line break/],
    ['YAML that is none', 'params=[1', /^--set: params: the value is not valid/],
    ['a prototype', 'params.__proto__=1', /^--set: params\.__proto__: is not allowed as a key$/],
    ['a prototype at the top', '__proto__=1', /^--set: __proto__: is not a known key/],
  ])('is refused for %s, with the key', (_, change, message) => {
    const refusal = () => withSet(change);
    expect(refusal).toThrow(JobSpecError);
    expect(refusal).toThrow(message);
  });

  it('is not blamed for what is wrong in the file', () => {
    const bad = () => parseJobSpec(text.replace('12', '0'), 'job.yaml', [parseChange('seed=3')]);
    expect(bad).toThrow(/^job\.yaml:5: batch: must be/);
  });
});

describe('a spec', () => {
  it('without changes is the same, and with one is as the file with it', () => {
    const spec = parseJobSpec(text);
    expect(changedJobSpec(spec, [])).toBe(spec);
    expect(changedJobSpec(spec, [parseChange('seed=3')])).toEqual({ ...spec, seed: 3 });
    expect(() => changedJobSpec(spec, [parseChange('batch=13')])).toThrow(/microbatches: must divide batch/);
  });

  it.each([
    ['a number that JSON writes as a long whole one', '{a: 1e20}'],
    ['as much in it as a job file may have', `{a: ${'x'.repeat(65_300)}}`],
  ])('with %s can be changed', (_, params) => {
    const spec = parseJobSpec(text.replace(/^params: .*$/m, `params: ${params}`));
    expect(changedJobSpec(spec, [parseChange('seed=3')])).toEqual({ ...spec, seed: 3 });
    expect(changedJobSpec(spec, [parseChange('params=')])).toEqual({ ...spec, paramsJson: '{}' });
  });
});
