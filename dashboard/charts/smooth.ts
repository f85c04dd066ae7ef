/** A curve without its noise: an exponential moving average that begins without a bias (as Adam's moments). Gaps stay gaps. */
export function smoothed(values: readonly (number | null)[], weight: number): readonly (number | null)[] {
  let sum = 0;
  let known = 0;
  return values.map((value) => {
    if (value === null) return null;
    sum = sum * weight + value * (1 - weight);
    known = known * weight + (1 - weight);
    return sum / known;
  });
}
