/** Cancels a job, after a question. */
import type { JSX } from 'preact';
import { type Answer, Question } from './question.js';

export interface CancelButtonProps {
  readonly name: string;
  /** A running job can save its state first. */
  readonly canSave: boolean;
  readonly enabled: boolean;
  readonly cancel: (checkpoint: boolean) => Promise<string>;
}

export function CancelButton({ name, canSave, enabled, cancel }: CancelButtonProps): JSX.Element {
  const save: Answer = { text: 'Save, then cancel', acting: 'Saving', act: () => cancel(true) };
  const now: Answer = { text: 'Cancel now', acting: 'Cancelling', danger: true, act: () => cancel(false) };
  return (
    <Question
      button="Cancel job"
      danger
      enabled={enabled}
      title={`Cancel ${name}?`}
      no="Keep it"
      answers={canSave ? [save, now] : [now]}
    >
      <p>
        Its workers stop and are free for other jobs. What was trained since the newest checkpoint is lost, unless you
        save first. <code>lockstep resume</code> goes on from a checkpoint.
      </p>
    </Question>
  );
}
