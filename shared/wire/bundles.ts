/** Our types for proto/bundles.proto. */
import { WIRE_PIECE_BYTES } from '../bundle/limits.js';
import { bool, bytes, type Infer, message, text, uint32, union } from './codec.js';
import { jobSpec } from './jobs.js';

const digest = text(64);

export const bundleReference = message({ sha256: digest });
export const bundleState = message({ whole: bool });
export const bundlePiece = message({ data: bytes(WIRE_PIECE_BYTES) });
export const uploadMessage = union('message', {
  header: message({ sha256: digest, bytes: uint32, spec: jobSpec }),
  piece: bundlePiece,
});
export type UploadMessage = Infer<typeof uploadMessage>;
