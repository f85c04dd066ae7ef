import type { JSX } from 'preact';

/** How many of the steps are committed; without an end that is known, a bar that is empty. */
export function ProgressBar({ committed, steps }: { readonly committed: number; readonly steps: number }): JSX.Element {
  const share = steps === 0 ? 0 : Math.min(1, committed / steps);
  return <progress max={1} value={share} aria-label={`${committed} of ${steps} steps`} />;
}
