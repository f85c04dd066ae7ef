/** A button, and the question that it asks before anything is changed. */
import type { ComponentChildren, JSX } from 'preact';
import { useId, useRef, useState } from 'preact/hooks';

export interface Answer {
  readonly text: string;
  /** While it is waited for what comes of it. */
  readonly acting: string;
  readonly danger?: boolean;
  /** Resolves with what went wrong, or with an empty text. */
  readonly act: () => Promise<string>;
}

export interface QuestionProps {
  readonly button: string;
  /** What a reader of the screen hears instead, where the place of the button says what it is about. */
  readonly label?: string;
  readonly danger?: boolean;
  readonly enabled: boolean;
  readonly title: string;
  /** Changes nothing. */
  readonly no: string;
  readonly answers: readonly Answer[];
  readonly children: ComponentChildren;
}

export function Question({ button, label, danger, enabled, title, no, answers, children }: QuestionProps): JSX.Element {
  const dialog = useRef<HTMLDialogElement>(null);
  const titleId = useId();
  const [acting, setActing] = useState('');
  const [error, setError] = useState('');
  const close = () => dialog.current?.close();
  const choose = async ({ text, act }: Answer) => {
    setActing(text);
    setError('');
    const problem = await act();
    setActing('');
    setError(problem);
    if (problem === '') close();
  };
  return (
    <>
      <button
        type="button"
        class={danger ? 'danger' : ''}
        aria-label={label}
        disabled={!enabled}
        onClick={() => dialog.current?.showModal()}
      >
        {button}
      </button>
      <dialog ref={dialog} aria-labelledby={titleId} onClose={() => setError('')}>
        <h2 id={titleId}>{title}</h2>
        {children}
        {error !== '' && (
          <p class="error" role="alert">
            {error}
          </p>
        )}
        <div class="actions">
          <button type="button" onClick={close}>
            {no}
          </button>
          {answers.map((answer) => (
            <button
              key={answer.text}
              type="button"
              class={answer.danger ? 'danger solid' : ''}
              disabled={acting !== '' || !enabled}
              onClick={() => void choose(answer)}
            >
              {acting === answer.text ? answer.acting : answer.text}
            </button>
          ))}
        </div>
      </dialog>
    </>
  );
}
