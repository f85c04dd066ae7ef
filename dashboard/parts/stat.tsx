import type { ComponentChildren, JSX } from 'preact';

export interface StatProps {
  readonly name: string;
  readonly children: ComponentChildren;
  readonly note?: string;
}

/** One figure with its name. */
export function Stat({ name, children, note = '' }: StatProps): JSX.Element {
  return (
    <div class="stat">
      <dt>{name}</dt>
      <dd>
        {children} {note !== '' && <small>{note}</small>}
      </dd>
    </div>
  );
}
