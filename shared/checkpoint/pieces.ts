/**
 * Long runs of bytes go through a ring of buffers: some are being filled while one is used and those before it are perhaps still being
 * written. So whoever has to wait long for a processor, as a thread of low priority has, finds more than one piece ready when it runs.
 */
import type { Run } from './shard_plan.js';

const PIECE_BYTES = 4 * 2 ** 20;
const RING = 4;
/** Rings kept for later use. */
const MAX_IDLE_RINGS = 2;

type Ring = readonly Buffer[];
const idle: Ring[] = [];

export interface PieceSource {
  /** Fills the buffer. */
  read(target: Buffer, at: number): Promise<void>;
}

/**
 * Calls `use` with each piece of the run, in order. The piece's buffer is left alone until what `use` returned has resolved; meanwhile `use` is
 * called with the pieces that follow. Resolves when all have; rejects with the first failure, or when `signal` aborts, and then too
 * nothing is under way any more.
 */
export async function eachPiece(
  source: PieceSource,
  run: Run,
  use: (piece: Buffer) => Promise<void> | void,
  signal?: AbortSignal,
): Promise<void> {
  const ring = idle.pop() ?? Array.from({ length: RING }, () => Buffer.allocUnsafeSlow(PIECE_BYTES));
  const underWay = new Set<Promise<unknown>>();
  try {
    await goRound(ring, { source, run, use, signal }, (act) => track(underWay, act));
  } finally {
    // Nobody else may have the buffers before the last one is free.
    await Promise.allSettled(underWay);
    if (idle.length < MAX_IDLE_RINGS) idle.push(ring);
  }
}

interface Passage {
  readonly source: PieceSource;
  readonly run: Run;
  readonly use: (piece: Buffer) => Promise<void> | void;
  readonly signal: AbortSignal | undefined;
}

async function goRound(
  ring: Ring,
  { source, run, use, signal }: Passage,
  started: <T>(act: Promise<T>) => Promise<T>,
): Promise<void> {
  const pieces = Math.ceil(run.length / PIECE_BYTES);
  const free: Promise<void>[] = ring.map(() => Promise.resolve());
  const fill = (index: number): Promise<Buffer> => {
    const at = index * PIECE_BYTES;
    const slot = index % RING;
    const target = (ring[slot] ?? Buffer.alloc(0)).subarray(0, Math.min(PIECE_BYTES, run.length - at));
    return started((free[slot] ?? Promise.resolve()).then(() => source.read(target, run.at + at)).then(() => target));
  };
  const filled = ring.slice(0, pieces).map((_, index) => fill(index));
  for (let index = 0; index < pieces; index++) {
    const piece = await filled[index % RING];
    signal?.throwIfAborted();
    if (piece !== undefined) free[index % RING] = started(Promise.resolve(use(piece)));
    if (index + RING < pieces) filled[index % RING] = fill(index + RING);
  }
  await Promise.all(free);
}

/** Until it has ended. Whoever awaits it hears of a failure, which may come before anybody does. */
function track<T>(underWay: Set<Promise<unknown>>, act: Promise<T>): Promise<T> {
  underWay.add(act);
  act.catch(() => undefined).finally(() => underWay.delete(act));
  return act;
}
