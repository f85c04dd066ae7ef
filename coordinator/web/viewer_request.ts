/** What a page may ask for, checked. */
import { z } from 'zod';
import type { ViewerRequest } from '../../shared/wire/dashboard.js';

const id = z.string().max(128);
const count = z.number().int().min(0);
const reason = z.string().max(256);
/** Of whatever changes something. */
const acting = { request: count, token: z.string().max(256) };

const viewerRequest = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('watch'),
    job: id.nullable(),
    resume: z.strictObject({ epoch: id, cluster: count.nullable(), job: count.nullable() }).nullable(),
  }),
  z.strictObject({ kind: z.literal('cancel'), job: id, checkpoint: z.boolean(), ...acting }),
  z.strictObject({ kind: z.literal('cordon'), worker: id, reason, ...acting }),
  z.strictObject({ kind: z.literal('uncordon'), worker: id, ...acting }),
  z.strictObject({ kind: z.literal('drain'), worker: id, reason, ...acting }),
]);

/** Undefined for what is not a request. */
export function parseViewerRequest(text: string): ViewerRequest | undefined {
  try {
    return viewerRequest.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}
