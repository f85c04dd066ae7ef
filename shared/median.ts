/** The middle value; of an even number of values the upper one of the two; 0 of none. */
export function medianOf(values: readonly number[]): number {
  return [...values].sort((left, right) => left - right)[Math.floor(values.length / 2)] ?? 0;
}
