import type { JSX } from 'preact';

export interface ChoiceProps<T extends string> {
  readonly label: string;
  readonly options: readonly (readonly [value: T, text: string])[];
  readonly value: T;
  readonly choose: (value: T) => void;
}

/** A few exclusive choices, as buttons in a row. */
export function Choice<T extends string>({ label, options, value, choose }: ChoiceProps<T>): JSX.Element {
  return (
    <fieldset class="choice">
      <legend>{label}</legend>
      {options.map(([one, text]) => (
        <button key={one} type="button" aria-pressed={one === value} onClick={() => choose(one)}>
          {text}
        </button>
      ))}
    </fieldset>
  );
}
