/** What an engine writes on its control pipe: events of all kinds with numbers that mean something, in any order, and lines that are nearly such. */
import fc from 'fast-check';
import { anyBytes, nearly } from './mutations.js';

const NUMBERS = [-1, 0, 1, 2, 3, 64, 4096, 2 ** 22, 2 ** 31, 2 ** 32, 2 ** 44, 2 ** 53, 1e308, 0.5];
const number = fc.oneof(fc.constantFrom(...NUMBERS), fc.nat({ max: 8 }), fc.constant(null));
const small = fc.nat({ max: 3 });
const hash = fc.constantFrom('0'.repeat(64), 'f'.repeat(64), '', 'x');
const text = fc.constantFrom('', 'cpu', '2.0', '\u0000', '__proto__', 'x'.repeat(3_000));
const consumed = fc.array(fc.constantFrom('0'.repeat(16), 'f'.repeat(16), ''), { maxLength: 5 });
const metrics = fc.dictionary(fc.constantFrom('a', '__proto__', 'x'.repeat(200)), number);

const FIELDS: Readonly<Record<string, Readonly<Record<string, fc.Arbitrary<unknown>>>>> = {
  started: { pid: number, torch: text, python: text, device: text, fingerprint: hash },
  loaded: {
    vector_bytes: number,
    bf16_bytes: number,
    parameters: number,
    dataset_length: number,
    dataset_digest: hash,
  },
  buckets: { step: small, lo: small, length: small, buckets: small },
  partial: {
    ...{ step: small, lo: small, length: small, loss: number, weight: number, consumed },
    ...{ data_ms: number, compute_ms: number },
  },
  microbatch: { step: small },
  computed: { step: small },
  applied: { step: small, grad_norm: number, lr: number, skipped: fc.boolean(), apply_ms: number },
  digest: { weights: hash, state: hash },
  evaluated: { metrics },
  finished: {},
  exported: { bytes: number, sha256: hash },
  state_exported: { bytes: number, sha256: hash },
  snapshot_taken: { bytes: number, copy_ms: number },
  state_imported: { state: hash },
  failed: { phase: text, kind: fc.constantFrom('user', 'engine', 'resource', 'x'), message: text, traceback: text },
};

/** An event of the protocol, its values right or not. */
export const engineEvents: fc.Arbitrary<Readonly<Record<string, unknown>>> = fc.oneof(
  ...Object.entries(FIELDS).map(([event, fields]) =>
    fc.record({ event: fc.constant(event), id: fc.integer({ min: -1, max: 6 }), ...fields }),
  ),
);

const line = engineEvents.map((event) => Buffer.from(`${JSON.stringify(event)}\n`));

/** Bytes of a control pipe. */
export const engineBytes: fc.Arbitrary<Buffer> = fc
  .array(fc.oneof(line, nearly(line), anyBytes), { minLength: 1, maxLength: 6 })
  .map((lines) => Buffer.concat(lines));
