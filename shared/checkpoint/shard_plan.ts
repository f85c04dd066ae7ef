/** How an image is cut into shards, and what a shard's own safetensors header is. Pure functions of the image's header. */
import { headerBytes, type ImageHeader, type TensorEntry } from './image_header.js';

const ALIGNMENT_BYTES = 8;

/** A run of bytes of the image. */
export interface Run {
  readonly at: number;
  readonly length: number;
}

/**
 * Cuts the tensors' bytes into `shards` contiguous runs at borders of tensors, such that the longest run is as short as can be and the
 * cuts are as near as that allows to those of equal runs. Where there are fewer tensors than shards, some runs are empty.
 */
export function cutIntoRuns(header: ImageHeader, shards: number): readonly Run[] {
  const borders = [0, ...header.tensors.filter(({ begin, end }) => end > begin).map(({ end }) => end)];
  const total = header.bytes - header.dataAt;
  const longest = shortestLongestRun(borders, shards);
  const earliest = earliestCuts(borders, shards, longest);
  let from = 0;
  return Array.from({ length: shards }, (_, shard) => {
    const ideal = (total * (shard + 1)) / shards;
    const low = earliest[shard] ?? 0;
    const high = at(borders, lastBorderUpTo(borders, from + longest));
    const to = shard === shards - 1 ? total : Math.min(Math.max(nearestBorder(borders, ideal), low, from), high);
    const run = { at: header.dataAt + from, length: to - from };
    from = to;
    return run;
  });
}

/**
 * The tensors of one run. A tensor without elements lies with the one that follows it, or, at the end, with the last. Without any
 * bytes at all they are the first shard's.
 */
export function tensorsOf(header: ImageHeader, runs: readonly Run[], shard: number): readonly TensorEntry[] {
  const run = runs[shard];
  const owner = Math.max(
    0,
    runs.findLastIndex(({ length }) => length > 0),
  );
  if (run === undefined) throw new RangeError(`there is no shard ${shard}`);
  const begin = run.at - header.dataAt;
  const dataBytes = header.bytes - header.dataAt;
  return header.tensors.filter(
    (tensor) =>
      (tensor.begin >= begin && tensor.begin < begin + run.length) || (tensor.begin === dataBytes && shard === owner),
  );
}

/** The bytes of a shard's file before its tensors. Offsets count from the shard's first byte. */
export function shardHeader(header: ImageHeader, runs: readonly Run[], shard: number): Buffer {
  const shift = (runs[shard]?.at ?? header.dataAt) - header.dataAt;
  const metadata = { format: 'lockstep shard', shard: String(shard), shards: String(runs.length) };
  // Put together as text: an object would move names that look like whole numbers to the front.
  const members = tensorsOf(header, runs, shard).map(({ name, dtype, shape, begin, end }) => {
    const entry = { dtype, shape, data_offsets: [begin - shift, end - shift] };
    return `,${JSON.stringify(name)}:${JSON.stringify(entry)}`;
  });
  const text = `{"__metadata__":${JSON.stringify(metadata)}${members.join('')}}`;
  const padding = -Buffer.byteLength(text) & (ALIGNMENT_BYTES - 1);
  return headerBytes(text + ' '.repeat(padding));
}

/** The smallest length that the longest of `shards` runs can have. */
function shortestLongestRun(borders: readonly number[], shards: number): number {
  const total = at(borders, borders.length - 1);
  let low = Math.ceil(total / shards);
  let high = total;
  while (low < high) {
    const middle = low + Math.floor((high - low) / 2);
    if (runsNeeded(borders, middle, shards) <= shards) high = middle;
    else low = middle + 1;
  }
  return high;
}

/** How many runs of at most `longest` bytes cover everything; more than `most` when they would be more. */
function runsNeeded(borders: readonly number[], longest: number, most: number): number {
  const last = borders.length - 1;
  let runs = 0;
  for (let index = 0; index < last; runs++) {
    const next = lastBorderUpTo(borders, at(borders, index) + longest);
    if (next === index || runs > most) return most + 1;
    index = next;
  }
  return runs;
}

/** By shard, the smallest border at which its run may end for the rest to fit into the runs that follow. */
function earliestCuts(borders: readonly number[], shards: number, longest: number): readonly number[] {
  const cuts: number[] = [];
  let end = at(borders, borders.length - 1);
  for (let shard = shards - 1; shard >= 0; shard--) {
    cuts[shard] = end;
    end = at(borders, firstBorderFrom(borders, end - longest));
  }
  return cuts;
}

function nearestBorder(borders: readonly number[], ideal: number): number {
  const below = lastBorderUpTo(borders, ideal);
  const [low, high] = [at(borders, below), at(borders, Math.min(below + 1, borders.length - 1))];
  return ideal - low <= high - ideal ? low : high;
}

/** Index of the last border that is not above `value`, which is not negative. */
function lastBorderUpTo(borders: readonly number[], value: number): number {
  let low = 0;
  let high = borders.length - 1;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (at(borders, middle) <= value) low = middle;
    else high = middle - 1;
  }
  return low;
}

function firstBorderFrom(borders: readonly number[], value: number): number {
  if (value <= 0) return 0;
  const index = lastBorderUpTo(borders, value);
  return at(borders, index) === value ? index : index + 1;
}

function at(borders: readonly number[], index: number): number {
  const border = borders[index];
  if (border === undefined) throw new RangeError(`there is no border ${index}`);
  return border;
}
