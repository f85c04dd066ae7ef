/** Who took part when: a line for each worker, with losses, pauses and generations. */
import type { JSX } from 'preact';
import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import { msText, timeTextIn } from '../figures.js';
import type { Membership } from './generations.js';

const ROW = 20;
const TOP = 20;
const BOTTOM = 20;
const LEFT = 58;
const RIGHT = 12;
const MAX_ROWS = 40;
const TICK_SPACE = 90;

/** The width that it has on the page. */
function useWidth(): [(element: HTMLDivElement | null) => void, number] {
  const [width, setWidth] = useState(600);
  const watched = useRef<ResizeObserver | undefined>(undefined);
  useEffect(() => () => watched.current?.disconnect(), []);
  const place = useCallback((element: HTMLDivElement | null) => {
    watched.current?.disconnect();
    if (element === null) return;
    watched.current = new ResizeObserver(() => setWidth(element.clientWidth));
    watched.current.observe(element);
  }, []);
  return [place, width];
}

function summary({ workers, generations, losses, pauses }: Membership): string {
  const longest = Math.max(0, ...pauses.map((pause) => pause.toMs - pause.fromMs));
  const paused = pauses.length === 0 ? '' : `, ${pauses.length} pauses, the longest ${msText(longest)}`;
  return `Membership: ${workers.length} workers, ${generations.length} generations, ${losses.length} workers lost${paused}`;
}

export function Timeline({ membership }: { readonly membership: Membership }): JSX.Element {
  const [place, width] = useWidth();
  const { workers, generations, presences, losses, pauses, fromMs, toMs } = membership;
  const shown = workers.slice(0, MAX_ROWS);
  const height = TOP + shown.length * ROW + BOTTOM;
  const plotWidth = Math.max(10, width - LEFT - RIGHT);
  const x = (ms: number): number => LEFT + ((ms - fromMs) / Math.max(1, toMs - fromMs)) * plotWidth;
  const y = (worker: string): number => TOP + shown.indexOf(worker) * ROW;
  const bottom = height - BOTTOM;
  const timeText = timeTextIn(fromMs, toMs);
  const ticks = Math.max(2, Math.min(8, Math.floor(plotWidth / TICK_SPACE)));
  return (
    <div class="timeline" ref={place}>
      <svg width={width} height={height} role="img" aria-label={summary(membership)}>
        {Array.from({ length: ticks }, (_, index) => {
          const ms = fromMs + ((toMs - fromMs) * index) / (ticks - 1);
          const anchor = index === 0 ? 'start' : index === ticks - 1 ? 'end' : 'middle';
          return (
            <g key={index}>
              <line class="grid" x1={x(ms)} x2={x(ms)} y1={TOP} y2={bottom} />
              <text class="tick" x={x(ms)} y={height - 6} text-anchor={anchor}>
                {timeText(ms)}
              </text>
            </g>
          );
        })}
        {shown.map((worker) => (
          <text key={worker} class="name" x={LEFT - 8} y={y(worker) + ROW - 6} text-anchor="end">
            {worker.length > 8 ? `${worker.slice(0, 7)}…` : worker}
          </text>
        ))}
        {presences
          .filter(({ worker }) => shown.includes(worker))
          .map(({ worker, generation, fromMs: begin, toMs: end }) => (
            <rect
              key={`${generation} ${worker}`}
              class="presence"
              x={x(begin)}
              y={y(worker) + 5}
              width={Math.max(1, x(end) - x(begin) - 1)}
              height={ROW - 9}
            >
              <title>{`${worker} in ${generationText(generation)}, ${timeText(begin)} to ${timeText(end)}`}</title>
            </rect>
          ))}
        {pauses.map(({ generation, step, fromMs: begin, toMs: end }) => (
          <rect
            key={`pause ${generation} ${step}`}
            class="pause"
            x={x(begin)}
            y={TOP}
            width={Math.max(2, x(end) - x(begin))}
            height={bottom - TOP}
          >
            <title>{`pause of ${msText(end - begin)} before step ${step + 1}`}</title>
          </rect>
        ))}
        <GenerationMarks membership={membership} x={x} bottom={bottom} />
        {losses
          .filter(({ worker }) => shown.includes(worker))
          .map(({ worker, timeMs, detectedBy, detectMs }) => (
            <g key={`${worker} ${timeMs}`} class="lost" transform={`translate(${x(timeMs)} ${y(worker) + ROW / 2})`}>
              <title>{`${worker} lost at ${timeText(timeMs)}: ${detectedBy}, ${msText(detectMs)}`}</title>
              <circle r="6" />
              <path d="M-2.5 -2.5 L2.5 2.5 M2.5 -2.5 L-2.5 2.5" />
            </g>
          ))}
      </svg>
      {workers.length > MAX_ROWS && <p class="hint">{workers.length - MAX_ROWS} more workers are not drawn.</p>}
      <p class="key">
        <span class="swatch presence" /> takes part <span class="swatch lost" /> lost <span class="swatch pause" />{' '}
        pause <span class="swatch generation" /> generation ({generations.length})
      </p>
    </div>
  );
}

function generationText(generation: number | undefined): string {
  return generation === undefined ? 'an earlier generation' : `generation ${generation}`;
}

interface MarksProps {
  readonly membership: Membership;
  readonly x: (ms: number) => number;
  readonly bottom: number;
}

function GenerationMarks({ membership, x, bottom }: MarksProps): JSX.Element {
  let textEnds = Number.NEGATIVE_INFINITY;
  return (
    <>
      {membership.generations.map(({ generation, step, reason, fromMs }) => {
        const at = x(fromMs);
        const named = generation !== undefined && at > textEnds;
        if (named) textEnds = at + 22;
        return (
          <g key={generation} class="generation">
            <title>{`${generationText(generation)}${step === undefined ? '' : ` from step ${step}`}${reason === '' ? '' : `: ${reason}`}`}</title>
            <line x1={at} x2={at} y1={TOP - 4} y2={bottom} />
            {named && (
              <text x={at} y={TOP - 7} text-anchor="middle">
                g{generation}
              </text>
            )}
          </g>
        );
      })}
    </>
  );
}
