import type { JSX } from 'preact';
import { formatBytes } from '../../shared/text/numbers.js';
import type { CheckpointRow } from '../../shared/wire/dashboard.js';
import { countText, dateText, isoText } from '../figures.js';

const SHOWN = 20;

/** The newest first. */
export function CheckpointTable({ checkpoints }: { readonly checkpoints: readonly CheckpointRow[] }): JSX.Element {
  if (checkpoints.length === 0) {
    return (
      <p class="empty">
        None yet. The key <code>checkpoint</code> of the job file says how often the state is saved.
      </p>
    );
  }
  const nowMs = Date.now();
  return (
    <div class="scroll">
      <table aria-label="Checkpoints">
        <thead>
          <tr>
            <th scope="col" class="number">
              Step
            </th>
            <th scope="col" class="number">
              Size
            </th>
            <th scope="col">Saved</th>
            <th scope="col">Folder</th>
          </tr>
        </thead>
        <tbody>
          {[...checkpoints]
            .reverse()
            .slice(0, SHOWN)
            .map((one) => (
              <tr key={one.step}>
                <td class="number">{countText(one.step)}</td>
                <td class="number">{formatBytes(one.bytes)}</td>
                <td title={isoText(one.timeMs)}>{dateText(one.timeMs, nowMs)}</td>
                <td class="path">{one.damage === '' ? one.path : <span class="bad">not usable: {one.damage}</span>}</td>
              </tr>
            ))}
        </tbody>
      </table>
    </div>
  );
}
