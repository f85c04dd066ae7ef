import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import type { EventRow } from '../../shared/wire/dashboard.js';
import { dateText, isoText } from '../figures.js';
import { eventText } from './event_text.js';

const SHOWN = 40;

/** The newest first. */
export function EventList({ events }: { readonly events: readonly EventRow[] }): JSX.Element {
  const [all, setAll] = useState(false);
  if (events.length === 0) return <p class="empty">Nothing has happened since this coordinator leads.</p>;
  const nowMs = Date.now();
  const shown = [...events].reverse().slice(0, all ? events.length : SHOWN);
  return (
    <>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable with the keyboard. */}
      <section class="scroll tall" tabIndex={0} aria-label="Events">
        <table class="events">
          <thead>
            <tr>
              <th scope="col">Time</th>
              <th scope="col">Event</th>
              <th scope="col">Details</th>
            </tr>
          </thead>
          <tbody>
            {shown.map((event) => {
              const { what, text, tone } = eventText(event);
              return (
                <tr key={event.sequence}>
                  <td class="time" title={isoText(event.timeMs)}>
                    {dateText(event.timeMs, nowMs)}
                  </td>
                  <td class={`what ${tone}`}>{what}</td>
                  <td class="text">{text}</td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </section>
      {!all && events.length > SHOWN && (
        <button type="button" class="plain" onClick={() => setAll(true)}>
          Show all {events.length}
        </button>
      )}
    </>
  );
}
