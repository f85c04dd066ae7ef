import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { canonicalJson } from '../../../shared/checkpoint/canonical_json.js';
import type { Manifest, ShardFacts } from '../../../shared/checkpoint/manifest.js';
import { BadManifest, makeManifest, manifestText, parseManifest } from '../../../shared/checkpoint/manifest_text.js';
import { shardFile } from '../../../shared/checkpoint/names.js';
import { cutIntoRuns, shardHeader } from '../../../shared/checkpoint/shard_plan.js';
import { DESCRIPTION } from '../../worker/checkpoint/test_thread.js';
import { imageOf, SOME_TENSORS } from './images.js';

const image = imageOf(SOME_TENSORS);
const SHARDS = 3;

function facts(): readonly ShardFacts[] {
  const runs = cutIntoRuns(image.header, SHARDS);
  return runs.map(({ length }, shard) => ({
    shard,
    file: shardFile(shard, SHARDS),
    bytes: shardHeader(image.header, runs, shard).length + length,
    sha256: String(shard).repeat(64),
  }));
}

const made = (): Manifest => makeManifest(DESCRIPTION, image, facts());

/** The manifest as text, with changes that it is signed for. */
function changed(change: (json: Record<string, unknown>) => void): Buffer {
  const json = JSON.parse(manifestText(made()).toString());
  delete json.digest;
  change(json);
  const body = JSON.stringify(json, null, 2).slice(0, -2);
  const digest = createHash('sha256').update(body).digest('hex');
  return Buffer.from(`${body},\n  "digest": "${digest}"\n}\n`);
}

const shard = (json: Record<string, unknown>, index: number): Record<string, unknown> =>
  (Array.isArray(json['shards']) ? json['shards'][index] : undefined) ?? {};
const state = (json: Record<string, unknown>): Record<string, unknown> => Object(json['state']);

describe('manifest.json', () => {
  it('says what it was made from, when it is read again', () => {
    const manifest = made();
    expect(parseManifest(manifestText(manifest))).toEqual(manifest);
    expect(manifest.description.specJson).toBe('{"params":{"depth":[1,2],"width":64},"task":"gpt.py:Gpt","version":1}');
  });

  it('is the same text whatever the order in which the shards were written', () => {
    const other = makeManifest(DESCRIPTION, image, [...facts()].reverse());
    expect(manifestText(other).equals(manifestText(made()))).toBe(true);
  });

  it('without a loss says null', () => {
    const { loss: _, ...withoutLoss } = DESCRIPTION;
    const text = manifestText(makeManifest(withoutLoss, image, facts()));
    expect(text.toString()).toContain('"loss": null');
    expect(parseManifest(text).description.loss).toBeUndefined();
  });

  it('is refused with any one byte changed, removed or added', () => {
    const text = manifestText(made());
    for (let at = 0; at < text.length; at += 7) {
      const flipped = Buffer.from(text);
      flipped[at] = (flipped[at] ?? 0) ^ 1;
      const without = Buffer.concat([text.subarray(0, at), text.subarray(at + 1)]);
      for (const bad of [flipped, without, Buffer.concat([text, Buffer.from('\n')])]) {
        expect(() => parseManifest(bad), `byte ${at}`).toThrow(BadManifest);
      }
    }
  });

  it.each<{ what: string; change: (json: Record<string, unknown>) => void; problem: string }>([
    {
      what: 'of another format',
      change: (json) => {
        json['format'] = 'x';
      },
      problem: 'not the manifest of a lockstep checkpoint',
    },
    {
      what: 'of a later version',
      change: (json) => {
        json['version'] = 2;
      },
      problem: 'reads version 1, use a newer one',
    },
    {
      what: 'with an unknown key',
      change: (json) => {
        json['more'] = 1;
      },
      problem: 'has more, which is not a known key',
    },
    {
      what: 'without a key',
      change: (json) => {
        delete json['torch'];
      },
      problem: 'has torch, which is missing',
    },
    {
      what: 'with a negative step',
      change: (json) => {
        json['step'] = -1;
      },
      problem: 'has step, which must be',
    },
    {
      what: 'with another spec',
      change: (json) => {
        json['spec'] = {};
      },
      problem: 'not the digest of spec',
    },
    {
      what: 'with a spec of no map',
      change: (json) => {
        json['spec'] = [];
      },
      problem: 'has spec, which must be a map',
    },
    {
      what: 'without shards',
      change: (json) => {
        json['shards'] = [];
      },
      problem: 'at least one shard',
    },
    {
      what: 'with a file elsewhere',
      change: (json) => {
        shard(json, 0)['file'] = '../x';
      },
      problem: 'shards[0].file',
    },
    {
      what: 'with another name of a shard',
      change: (json) => {
        shard(json, 0)['file'] = shardFile(1, SHARDS);
      },
      problem: 'not the name of shard 0',
    },
    {
      what: 'with a gap',
      change: (json) => {
        shard(json, 1)['at'] = 8;
      },
      problem: 'where the run before it ends',
    },
    {
      what: 'with a run that is too long',
      change: (json) => {
        shard(json, 2)['length'] = 2 ** 50;
      },
      problem: 'shards that end at',
    },
    {
      what: 'with another length of a file',
      change: (json) => {
        shard(json, 0)['bytes'] = 8;
      },
      problem: 'has shards[0].bytes 8',
    },
    {
      what: 'with a digest that is none',
      change: (json) => {
        shard(json, 0)['sha256'] = 'A'.repeat(64);
      },
      problem: 'shards[0].sha256',
    },
    {
      what: 'with another length of the state',
      change: (json) => {
        state(json)['bytes'] = 8;
      },
      problem: 'has state.bytes 8',
    },
    {
      what: 'with a header that is none',
      change: (json) => {
        state(json)['header'] = '{"a":1}';
      },
      problem: 'has state.header, which has a tensor "a"',
    },
  ])('$what is refused, and the key is named', ({ change, problem }) => {
    const text = changed(change);
    expect(() => parseManifest(text)).toThrow(BadManifest);
    expect(() => parseManifest(text)).toThrow(problem);
  });

  it('whose runs end inside a tensor is refused', () => {
    const text = changed((json) => {
      const [first, second] = [shard(json, 0), shard(json, 1)];
      first['length'] = Number(first['length']) - 4;
      second['at'] = Number(second['at']) - 4;
      second['length'] = Number(second['length']) + 4;
    });
    expect(() => parseManifest(text)).toThrow('has shards[0], which ends inside a tensor');
  });

  it.each(['', 'null', '[]', '{', '\xff', `${'['.repeat(100_000)}`])('that is %j is refused', (text) => {
    expect(() => parseManifest(Buffer.from(text, 'latin1'))).toThrow(BadManifest);
  });

  it('is not made from shards that do not fit', () => {
    const wrong = facts().map((one) => (one.shard === 1 ? { ...one, bytes: one.bytes + 1 } : one));
    expect(() => makeManifest(DESCRIPTION, image, wrong)).toThrow('has shards[1].bytes');
    expect(() => makeManifest(DESCRIPTION, image, facts().slice(1))).toThrow('not the name of shard');
  });
});

describe('canonical JSON', () => {
  it('sorts keys by UTF-16 code units and writes numbers as JavaScript does', () => {
    expect(canonicalJson({ b: [1e21, -0, 0.1], a: { '\u{1f600}': null, '\ufb33': true } })).toBe(
      '{"a":{"\u{1f600}":null,"\ufb33":true},"b":[1e+21,0,0.1]}',
    );
  });

  it('refuses what JSON does not have, and what is nested too deep', () => {
    expect(() => canonicalJson(Number.NaN)).toThrow(TypeError);
    expect(() => canonicalJson({ a: undefined })).toThrow(TypeError);
    let deep: unknown = 0;
    for (let level = 0; level < 100; level++) deep = [deep];
    expect(() => canonicalJson(deep)).toThrow(RangeError);
  });
});
