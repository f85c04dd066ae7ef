/** Takes a worker out of service, and back, after a question. */
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { DRAIN_SECONDS } from '../../shared/drain.js';
import type { NodeRow, PageAct } from '../../shared/wire/dashboard.js';
import { type Answer, Question } from './question.js';

const REASON_CHARACTERS = 200;

/** What is asked of a worker. */
export type ServiceAct = Extract<PageAct, { readonly worker: string }>;

export interface ServiceButtonProps {
  readonly node: NodeRow;
  readonly enabled: boolean;
  readonly serve: (act: ServiceAct) => Promise<string>;
}

export function ServiceButton({ node, enabled, serve }: ServiceButtonProps): JSX.Element {
  const { worker, cordoned, job, note } = node;
  const [reason, setReason] = useState('');
  const withoutReason = async (act: ServiceAct): Promise<string> => {
    const problem = await serve(act);
    if (problem === '') setReason('');
    return problem;
  };
  const answers: Readonly<Record<ServiceAct['kind'], Answer>> = {
    cordon: { text: 'Cordon', acting: 'Cordoning', act: () => withoutReason({ kind: 'cordon', worker, reason }) },
    drain: {
      text: 'Drain',
      acting: 'Draining',
      danger: true,
      act: () => withoutReason({ kind: 'drain', worker, reason }),
    },
    uncordon: { text: 'Uncordon', acting: 'Uncordoning', act: () => withoutReason({ kind: 'uncordon', worker }) },
  };
  const canDrain = !cordoned || job !== '';
  const kinds: readonly ServiceAct['kind'][] = [
    ...(note === '' ? [] : (['uncordon'] as const)),
    ...(cordoned ? [] : (['cordon'] as const)),
    ...(canDrain ? (['drain'] as const) : []),
  ];
  return (
    <Question
      button="Service"
      label={`Service of ${worker}`}
      enabled={enabled}
      title={`${worker}: ${note === '' ? 'in service' : note}`}
      no="Leave it"
      answers={kinds.map((kind) => answers[kind])}
    >
      <ul class="meanings">
        {kinds.includes('uncordon') && (
          <li>
            <b>Uncordon</b>: it gets work again, whatever was found or has failed before.
          </li>
        )}
        {kinds.includes('cordon') && (
          <li>
            <b>Cordon</b>: it gets no new work; what it does it goes on doing.
          </li>
        )}
        {canDrain && (
          <li>
            <b>Drain</b>: it is cordoned, and leaves its job in good order, within {DRAIN_SECONDS / 60} minutes. The
            other workers go on.
          </li>
        )}
      </ul>
      {canDrain && (
        <label class="reason-field">
          Reason, for people
          <input
            maxLength={REASON_CHARACTERS}
            value={reason}
            onInput={(event) => setReason(event.currentTarget.value)}
          />
        </label>
      )}
    </Question>
  );
}
