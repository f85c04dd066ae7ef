/** How large the code of a job may be. Big data does not travel with the code: a job names it by path or URL. */

export const MAX_PACKED_BYTES = 16 * 1024 * 1024;
export const MAX_UNPACKED_BYTES = 64 * 1024 * 1024;
export const MAX_FILES = 10_000;
/** A message carries so much of an archive. */
export const WIRE_PIECE_BYTES = 256 * 1024;
