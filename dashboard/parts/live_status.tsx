/** Whether what is shown is live; said, not only coloured. */
import type { JSX } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { formatDuration } from '../../shared/text/numbers.js';
import type { Shown } from '../connection.js';

export function LiveStatus({ liveness, lostMs }: Pick<Shown, 'liveness' | 'lostMs'>): JSX.Element {
  const [, setNowMs] = useState(0);
  useEffect(() => {
    if (liveness === 'live') return undefined;
    const timer = setInterval(() => setNowMs(Date.now()), 1000);
    return () => clearInterval(timer);
  }, [liveness]);
  const seconds = Math.floor((Date.now() - lostMs) / 1000);
  const text =
    liveness === 'live'
      ? 'Live'
      : liveness === 'connecting'
        ? 'Connecting'
        : `Not live for ${formatDuration(seconds)}, reconnecting`;
  return (
    <span class={`live ${liveness}`} role="status">
      {text}
    </span>
  );
}
