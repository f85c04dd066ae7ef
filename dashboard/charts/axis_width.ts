/** How wide an axis must be for its labels, which would be cut otherwise. Pure. */

const AXIS_WIDTH = 54;
const CHARACTER_WIDTH = 6.5;
/** Of the tick, and between it and its label. */
const TICK_WIDTH = 10;

/** uPlot asks with none before there are any. */
export function axisWidth(labels: readonly string[] | null): number {
  const longest = Math.max(0, ...(labels ?? []).map((label) => label.length));
  return Math.max(AXIS_WIDTH, Math.ceil(TICK_WIDTH + longest * CHARACTER_WIDTH));
}
