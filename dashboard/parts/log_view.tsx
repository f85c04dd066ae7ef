/**
 * What the user's code printed. It is shown as text only: markup in it is never read as such, and escape sequences and control
 * characters are taken out.
 */
import type { JSX } from 'preact';
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { printableLines } from '../../shared/text/printable.js';
import type { LogRow } from '../../shared/wire/dashboard.js';
import { countText, dateText } from '../figures.js';

const SHOWN = 400;
const AT_END_PIXELS = 24;

export function LogView({ logs }: { readonly logs: readonly LogRow[] }): JSX.Element {
  const [worker, setWorker] = useState('');
  const [words, setWords] = useState('');
  const place = useRef<HTMLDivElement>(null);
  const follows = useRef(true);
  const workers = useMemo(() => [...new Set(logs.map((row) => row.worker))].sort(), [logs]);
  const shown = useMemo(() => linesWith(logs, worker, words), [logs, worker, words]);
  // Made once for the same lines: the page changes ten times a second, the lines seldom.
  const lines = useMemo(() => shown.map((row) => <LogLine key={row.line} row={row} />), [shown]);
  const newest = shown.at(-1)?.line;
  // It scrolls when there is a new line.
  useEffect(() => {
    const element = place.current;
    if (element !== null && follows.current) element.scrollTop = element.scrollHeight;
  }, [newest]);
  const scrolled = () => {
    const element = place.current;
    if (element === null) return;
    follows.current = element.scrollHeight - element.scrollTop - element.clientHeight < AT_END_PIXELS;
  };
  return (
    <>
      <div class="filters">
        <label>
          Worker{' '}
          <select value={worker} onChange={(event) => setWorker(event.currentTarget.value)}>
            <option value="">all</option>
            {workers.map((name) => (
              <option key={name} value={name}>
                {name}
              </option>
            ))}
          </select>
        </label>
        <label>
          Containing <input type="search" value={words} onInput={(event) => setWords(event.currentTarget.value)} />
        </label>
        <span class="muted">
          {countText(shown.length)} of {countText(logs.length)} lines
        </span>
      </div>
      <div
        class="log"
        role="log"
        aria-live="off"
        aria-label="What the task printed"
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable with the keyboard.
        tabIndex={0}
        ref={place}
        onScroll={scrolled}
      >
        {shown.length === 0 && (
          <p class="empty">{logs.length === 0 ? 'The task has printed nothing.' : 'No line is like that.'}</p>
        )}
        {lines}
      </div>
    </>
  );
}

/** The newest of them. */
function linesWith(logs: readonly LogRow[], worker: string, words: string): readonly LogRow[] {
  const wanted = words.toLowerCase();
  const found = logs.filter(
    (row) => (worker === '' || row.worker === worker) && (wanted === '' || row.text.toLowerCase().includes(wanted)),
  );
  return found.slice(-SHOWN);
}

/** As `lockstep logs` shows it. */
function nameOf({ worker, attempt }: LogRow): string {
  return attempt > 1 ? `${worker}#${attempt}` : worker;
}

function LogLine({ row }: { readonly row: LogRow }): JSX.Element {
  return (
    <div class={row.stream === 'stderr' ? 'stderr' : 'stdout'}>
      <span class="time">{dateText(row.timeMs, Date.now())}</span> <span class="worker">{nameOf(row)}</span>{' '}
      <span class="text">{printableLines(row.text).replace(/\n$/, '')}</span>
    </div>
  );
}
