import type { JSX } from 'preact';

/** A state of a job or a worker: a word, and a colour for those who see it. */
export function StateBadge({ state }: { readonly state: string }): JSX.Element {
  return <span class={`badge ${state}`}>{state}</span>;
}
