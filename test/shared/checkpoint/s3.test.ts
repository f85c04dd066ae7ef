import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { DamagedCheckpoint, StorageFailure } from '../../../shared/checkpoint/errors.js';
import { listCheckpoints } from '../../../shared/checkpoint/list.js';
import { openCheckpoint, openStorage } from '../../../shared/checkpoint/open_storage.js';
import { S3 } from '../../../shared/checkpoint/s3.js';
import { S3Client } from '../../../shared/checkpoint/s3_client.js';
import { listObjects, listUploads } from '../../../shared/checkpoint/s3_objects.js';
import type { S3Options } from '../../../shared/checkpoint/s3_options.js';
import type { Storage } from '../../../shared/checkpoint/storage.js';
import { verifyCheckpoint, verifyIn } from '../../../shared/checkpoint/verify.js';
import { timed } from '../../timed.js';
import { restored, StateMemory } from '../../worker/checkpoint/saving.js';
import { FaultyStore, type StoreRequest } from './faulty_store.js';
import { imageOf, SOME_TENSORS } from './images.js';

const HOUR_MS = 3_600_000;
const ONCE = { attempts: 1 };
const older = new StateMemory(imageOf(SOME_TENSORS, 1));
const newer = new StateMemory(imageOf(SOME_TENSORS, 2));

let store: FaultyStore;
beforeAll(async () => {
  store = await FaultyStore.start();
});
afterAll(async () => {
  older.close();
  newer.close();
  await store.close();
});

let folder: string;
let count = 0;
beforeEach(() => {
  store.faultWith();
  folder = `s3://bucket/jobs/job-${count++}`;
});

function storage(options: Partial<S3Options> = {}, signal?: AbortSignal): Storage {
  return openStorage(folder, { s3: store.options(options) }, signal);
}

const client = (options: Partial<S3Options> = {}): S3Client => new S3Client(store.options(options), 'bucket');

async function objects(): Promise<readonly string[]> {
  const prefix = folder.slice('s3://bucket/'.length);
  return (await listObjects(client(), `${prefix}/`)).map(({ key }) => key.slice(prefix.length + 1)).sort();
}

const SAVE = { step: 200, save: 'one', shards: 2 };
const isPutOf = (request: StoreRequest, file: string): boolean =>
  request.method === 'PUT' && request.url.includes(file);
const flipped = (body: Buffer): Buffer => {
  const copy = Buffer.from(body);
  copy[copy.length >> 1] = (copy[copy.length >> 1] ?? 0) ^ 1;
  return copy;
};

describe('a checkpoint in an S3-compatible store', () => {
  it('is saved, verified, listed, restored and removed', async () => {
    const saved = await newer.save(storage(), SAVE);
    expect(saved.path).toBe(`${folder}/step-000000200`);
    await newer.save(storage(), { ...SAVE, step: 1000 });
    const options = { s3: store.options() };
    expect((await listCheckpoints(folder, options)).map(({ step }) => step)).toEqual([1000, 200]);
    const { manifestSha256 } = await verifyCheckpoint(saved.path, options);
    const opened = openCheckpoint(saved.path, options);
    for (const parts of [1, 2]) {
      const { memory, own } = await restored(opened.storage, { name: opened.name, manifestSha256 }, { part: 0, parts });
      for (const { at, length } of own) {
        expect(memory.subarray(at, at + length).equals(newer.image.bytes.subarray(at, at + length))).toBe(true);
      }
    }
    await opened.storage.remove('step-000000200');
    expect(await storage().list()).toEqual(['step-000001000']);
    await opened.storage.remove('step-000000200');
  });

  it('is uploaded in parts of 8 MiB when it is long', async () => {
    const large = new StateMemory(
      imageOf(
        [
          { name: 'a', shape: [5_000_000] },
          { name: 'b', shape: [3] },
        ],
        3,
      ),
    );
    const saved = await large.save(storage(), { step: 1, save: 'parts', shards: 1 });
    large.close();
    expect(store.requests.filter((line) => line.includes('partNumber='))).toHaveLength(3);
    const { memory } = await restored(storage(), { name: 'step-000000001', manifestSha256: saved.manifestSha256 });
    expect(memory.equals(large.image.bytes)).toBe(true);
  });

  it('in the bucket itself, without a prefix, works too', async () => {
    folder = 's3://bucket';
    await newer.save(storage(), SAVE);
    expect(await storage().list()).toEqual(['step-000000200']);
    await storage().remove('step-000000200');
  });

  it('under a prefix with signs that must be escaped is signed right', async () => {
    folder = `${folder}/a=b_c.d-e`;
    await expect(newer.save(storage({ sessionToken: 'a/token+of=session' }), SAVE)).resolves.toBeDefined();
    expect(await storage().list()).toEqual(['step-000000200']);
  });

  it('of the same state is taken as it is, one of another state is replaced', async () => {
    const first = await newer.save(storage(), SAVE);
    const second = await newer.save(storage(), { ...SAVE, save: 'two' });
    expect(second.manifestSha256).toBe(first.manifestSha256);
    const third = await older.save(storage(), { ...SAVE, save: 'three' });
    expect(third.manifest.stateSha256).toBe(older.image.sha256);
    expect(await verifyIn(storage(), 'step-000000200')).toMatchObject({ manifestSha256: third.manifestSha256 });
  });

  it('may be published by two at once', async () => {
    const facts = await newer.writeShards(storage(), SAVE);
    const results = await Promise.all([newer.publish(storage(), SAVE, facts), newer.publish(storage(), SAVE, facts)]);
    expect(results[0]?.manifestSha256).toBe(results[1]?.manifestSha256);
  });

  it('of another save that wins while ours is put is found, not overwritten', async () => {
    const facts = await newer.writeShards(storage(), SAVE);
    let rival: Promise<unknown> | undefined;
    store.faultWith((request) => {
      if (!isPutOf(request, 'manifest.json') || rival !== undefined) return { kind: 'pass' };
      rival = newer.save(storage(), { ...SAVE, save: 'rival' });
      // Ours is answered only after the other one is there.
      return { kind: 'answer', answer: { status: 503 } };
    });
    const [ours] = await Promise.all([newer.publish(storage(), SAVE, facts), rival]);
    expect(await verifyIn(storage(), 'step-000000200')).toMatchObject({ manifestSha256: ours.manifestSha256 });
  });

  it('whose shards were removed meanwhile is not published, not even for a moment', async () => {
    const facts = await newer.writeShards(storage(), SAVE);
    await storage().discard(SAVE);
    store.faultWith();
    await expect(newer.publish(storage(), SAVE, facts)).rejects.toThrow('is missing; it was abandoned or removed');
    expect(store.requests.filter((line) => line.startsWith('PUT'))).toEqual([]);
  });

  it('whose bucket is not there is a failure of the store, and no damage', async () => {
    const nowhere = openStorage('s3://no-such-bucket/x', { s3: store.options(ONCE) });
    const failure = await verifyIn(nowhere, 'step-000000001').catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(StorageFailure);
    expect(failure).not.toBeInstanceOf(DamagedCheckpoint);
    await expect(verifyIn(storage(), 'step-000000001')).rejects.toBeInstanceOf(DamagedCheckpoint);
  });
});

describe('a process that dies while it saves to a store', () => {
  it.each(['refuse', 'lose_answer'] as const)(
    'leaves the old checkpoint or the new one at every request (%s), and the next save succeeds',
    async (kind) => {
      const base = folder;
      for (let livesFor = 0; ; livesFor++) {
        folder = `${base}/${livesFor}`;
        const first = await older.save(storage(), { ...SAVE, step: 100 });
        store.faultWith(({ index }) => {
          if (index < livesFor) return { kind: 'pass' };
          return index === livesFor ? { kind } : { kind: 'refuse' };
        });
        const outcome = await newer.save(storage(ONCE), SAVE).catch((error: unknown) => error);
        store.faultWith();
        for (const name of await storage().list()) {
          const { manifest } = await verifyIn(storage(), name);
          const { sha256 } = name === 'step-000000100' ? older.image : newer.image;
          expect(manifest.stateSha256).toBe(sha256);
        }
        expect((await verifyIn(storage(), 'step-000000100')).manifestSha256).toBe(first.manifestSha256);
        await expect(newer.save(storage(), { ...SAVE, save: 'again' })).resolves.toBeDefined();
        if (!(outcome instanceof Error)) break;
        expect(outcome).toBeInstanceOf(StorageFailure);
      }
    },
  );
});

describe('a process that dies while it removes from a store', () => {
  it('leaves the checkpoint whole or not at all, at every request', async () => {
    const base = folder;
    for (let livesFor = 0; ; livesFor++) {
      folder = `${base}/${livesFor}`;
      await newer.save(storage(), SAVE);
      store.faultWith(({ index }) => ({ kind: index < livesFor ? 'pass' : 'refuse' }));
      const outcome = await storage(ONCE)
        .remove('step-000000200')
        .catch((error: unknown) => error);
      store.faultWith();
      for (const name of await storage().list()) await expect(verifyIn(storage(), name)).resolves.toBeDefined();
      await storage().remove('step-000000200');
      expect(await objects()).toEqual([]);
      if (outcome === undefined) break;
    }
  });
});

describe('a store that is faulty', () => {
  it.each([
    { what: 'flips a bit of', spoil: flipped },
    { what: 'loses the end of', spoil: (body: Buffer) => body.subarray(0, -1) },
    { what: 'adds to', spoil: (body: Buffer) => Buffer.concat([body, Buffer.alloc(1)]) },
  ])('and $what a shard is found by the read back, and the object removed', async ({ spoil }) => {
    store.faultWith((request) =>
      isPutOf(request, 'shard-00001') ? { kind: 'spoil_request', spoil } : { kind: 'pass' },
    );
    await expect(newer.save(storage(), SAVE)).rejects.toThrow(
      /shard-00001\S+: read back, it has \d+ bytes.*store is faulty/,
    );
    store.faultWith();
    expect((await objects()).map((key) => key.slice(0, 26))).toEqual(['step-000000200/shard-00000']);
  });

  it('and spoils the manifest is found by the read back', async () => {
    store.faultWith((request) =>
      isPutOf(request, 'manifest.json') ? { kind: 'spoil_request', spoil: flipped } : { kind: 'pass' },
    );
    await expect(newer.save(storage(), SAVE)).rejects.toBeInstanceOf(DamagedCheckpoint);
    store.faultWith();
    await expect(newer.save(storage(), { ...SAVE, save: 'two' })).resolves.toBeDefined();
  });

  it('and spoils a shard after it was verified is found when it is published, and the manifest taken back', async () => {
    const facts = await newer.writeShards(storage(), SAVE);
    store.faultWith(({ method, url }) =>
      method === 'GET' && url.includes('shard-00000') ? { kind: 'spoil_answer', spoil: flipped } : { kind: 'pass' },
    );
    await expect(newer.publish(storage(), SAVE, facts)).rejects.toThrow('shard-00000');
    store.faultWith();
    expect(await storage().list()).toEqual([]);
  });

  it('and forgets a part of a long object is found by the read back', async () => {
    const large = new StateMemory(imageOf([{ name: 'a', shape: [3_000_000] }], 3));
    store.faultWith(({ method, url }) => {
      const isSecond = method === 'PUT' && url.includes('partNumber=2');
      return isSecond ? { kind: 'spoil_request', spoil: flipped } : { kind: 'pass' };
    });
    await expect(large.save(storage(), { ...SAVE, shards: 1 })).rejects.toThrow('the store is faulty');
    large.close();
  });

  it('and answers every other request with 503, or breaks the connection, is asked again', async () => {
    store.faultWith(({ index }) => {
      if (index % 4 === 1) return { kind: 'answer', answer: { status: 503 } };
      return index % 4 === 3 ? { kind: 'lose_answer' } : { kind: 'pass' };
    });
    await expect(newer.save(storage(), SAVE)).resolves.toBeDefined();
  });

  it('and never answers fails the save in bounded time', timed, async () => {
    store.faultWith(() => ({ kind: 'hang' }));
    const startMs = performance.now();
    await expect(newer.save(storage({ requestTimeoutMs: 100, attempts: 2 }), SAVE)).rejects.toThrow(
      /^cannot PUT s3:\/\/bucket\/\S+ at http\S+: no answer in time \(2 attempts\)$/,
    );
    expect(performance.now() - startMs).toBeLessThan(5000);
  });

  it('and never answers does not hold up an act that is stopped', timed, async () => {
    store.faultWith(() => ({ kind: 'hang' }));
    const controller = new AbortController();
    const act = verifyIn(storage({}, controller.signal), 'step-000000200');
    setTimeout(() => controller.abort(), 50);
    const startMs = performance.now();
    await expect(act).rejects.toThrow();
    expect(performance.now() - startMs).toBeLessThan(2000);
  });

  it('or refuses the key is not asked again, and the line says what to check', async () => {
    await expect(newer.save(storage({ secretAccessKey: 'wrong' }), SAVE)).rejects.toThrow(
      /^cannot PUT s3:\/\/bucket\/\S+ at http\S+: 403 SignatureDoesNotMatch; check the access key/,
    );
    expect(store.requests.filter((line) => line.startsWith('PUT'))).toHaveLength(1);
  });

  it('or is not there says so', async () => {
    const gone = openStorage(folder, { s3: { ...store.options(ONCE), endpoint: 'http://127.0.0.1:1' } });
    await expect(newer.save(gone, SAVE)).rejects.toThrow(/cannot PUT .* at http:\/\/127.0.0.1:1: /);
  });

  it('without conditional writes is written to without conditions', async () => {
    store.faultWith(({ headers }) =>
      headers['if-none-match'] === undefined ? { kind: 'pass' } : { kind: 'answer', answer: { status: 501 } },
    );
    await expect(newer.save(storage(), SAVE)).resolves.toBeDefined();
  });

  it('whose clock differs from ours by an hour is asked again with its own time', async () => {
    const hourAhead = new Date(Date.now() + HOUR_MS);
    const dates: string[] = [];
    store.faultWith(({ headers, index }) => {
      dates.push(String(headers['x-amz-date']));
      const body = Buffer.from('<Error><Code>RequestTimeTooSkewed</Code></Error>');
      return {
        kind: 'answer',
        answer: index === 0 ? { status: 403, headers: { date: hourAhead.toUTCString() }, body } : { status: 200 },
      };
    });
    expect(await listObjects(client(), 'x')).toEqual([]);
    expect(dates[1]?.slice(0, 11)).toBe(hourAhead.toISOString().replace(/[:-]/g, '').slice(0, 11));
  });
});

describe('left-overs in a store', () => {
  const inAnHour = () => new S3(client(), `${folder.slice('s3://bucket/'.length)}/`, () => Date.now() + HOUR_MS + 5000);

  it('of an abandoned save are removed, and nothing else is', async () => {
    await newer.writeShards(storage(), SAVE);
    await newer.writeShards(storage(), { ...SAVE, save: 'one-more' });
    await storage().discard(SAVE);
    expect((await objects()).every((key) => key.includes('.one-more-'))).toBe(true);
    await newer.save(storage(), { ...SAVE, save: 'two' });
    await storage().discard({ ...SAVE, save: 'two' });
    await expect(verifyIn(storage(), 'step-000000200')).resolves.toBeDefined();
  });

  it('of other saves go an hour later, when something is published', async () => {
    await newer.writeShards(storage(), { ...SAVE, save: 'dead' });
    await newer.writeShards(storage(), { ...SAVE, step: 300, save: 'dead' });
    await newer.save(storage(), SAVE);
    await client().request({
      method: 'PUT',
      key: `${folder.slice('s3://bucket/'.length)}/step-000000200/notes.txt`,
      body: Buffer.from('mine'),
    });
    await storage().tidy(SAVE);
    expect(await objects()).toHaveLength(8);
    await inAnHour().tidy(SAVE);
    expect(await objects()).toHaveLength(4);
    expect(await objects()).toContain('step-000000200/notes.txt');
    await expect(verifyIn(storage(), 'step-000000200')).resolves.toBeDefined();
  });

  it('in long lists are met page by page', async () => {
    const page = (keys: readonly string[], next: string): string =>
      `<ListBucketResult><IsTruncated>${next !== ''}</IsTruncated><NextContinuationToken>${next}</NextContinuationToken>${keys
        .map((key) => `<Contents><Key>${key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>`)
        .join('')}</ListBucketResult>`;
    store.faultWith(({ url }) => {
      const isSecond = url.includes('continuation-token=a%3D');
      const body = Buffer.from(isSecond ? page(['c'], '') : page(['a&amp;', 'b&#x41;'], 'a='));
      return { kind: 'answer', answer: { status: 200, body } };
    });
    const listed = await listObjects(client(), '');
    expect(listed.map(({ key }) => key)).toEqual(['a&', 'bA', 'c']);
    expect(listed[0]?.changedMs).toBe(Date.UTC(2026, 0, 1));
  });

  it('that are uploads nobody completed are aborted', async () => {
    const prefix = folder.slice('s3://bucket/'.length);
    const upload = (file: string): string =>
      `<Upload><Key>${prefix}/step-000000200/${file}</Key><UploadId>id-${file.length}</UploadId><Initiated>2026-01-01T00:00:00Z</Initiated></Upload>`;
    const dead = 'shard-00000-of-00002.dead-0123456789ab.safetensors';
    store.faultWith(({ method, url }) => {
      if (method === 'DELETE') return { kind: 'answer', answer: { status: 204 } };
      if (!url.includes('uploads')) return { kind: 'pass' };
      const body = Buffer.from(
        `<ListMultipartUploadsResult>${upload(dead)}${upload('other.bin')}</ListMultipartUploadsResult>`,
      );
      return { kind: 'answer', answer: { status: 200, body } };
    });
    expect(await listUploads(client(), '')).toHaveLength(2);
    await storage().tidy(SAVE);
    expect(store.requests.filter((line) => line.startsWith('DELETE'))).toEqual([
      `DELETE /bucket/${prefix}/step-000000200/${dead}?uploadId=id-${dead.length}`,
    ]);
  });
});
