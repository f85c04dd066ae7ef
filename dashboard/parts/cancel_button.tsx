/** Cancels a job, after a question. The only thing on these pages that changes anything. */
import type { JSX } from 'preact';
import { useRef, useState } from 'preact/hooks';

export interface CancelButtonProps {
  readonly name: string;
  /** A running job can save its state first. */
  readonly canSave: boolean;
  readonly enabled: boolean;
  readonly cancel: (checkpoint: boolean) => Promise<string>;
}

export function CancelButton({ name, canSave, enabled, cancel }: CancelButtonProps): JSX.Element {
  const dialog = useRef<HTMLDialogElement>(null);
  const [asked, setAsked] = useState(false);
  const [error, setError] = useState('');
  const close = () => dialog.current?.close();
  const act = async (checkpoint: boolean) => {
    setAsked(true);
    setError('');
    const problem = await cancel(checkpoint);
    setAsked(false);
    setError(problem);
    if (problem === '') close();
  };
  return (
    <>
      <button type="button" class="danger" disabled={!enabled} onClick={() => dialog.current?.showModal()}>
        Cancel job
      </button>
      <dialog ref={dialog} aria-labelledby="cancel-title" onClose={() => setError('')}>
        <h2 id="cancel-title">Cancel {name}?</h2>
        <p>
          Its workers stop and are free for other jobs. What was trained since the newest checkpoint is lost, unless you
          save first. <code>lockstep resume</code> goes on from a checkpoint.
        </p>
        {error !== '' && (
          <p class="error" role="alert">
            {error}
          </p>
        )}
        <div class="actions">
          <button type="button" onClick={close}>
            Keep it
          </button>
          {canSave && (
            <button type="button" disabled={asked} onClick={() => void act(true)}>
              Save, then cancel
            </button>
          )}
          <button type="button" class="danger solid" disabled={asked} onClick={() => void act(false)}>
            {asked ? 'Cancelling' : 'Cancel now'}
          </button>
        </div>
      </dialog>
    </>
  );
}
