/** The colours of charts: those of the style sheet, so that there is one place for them. */
import { useEffect, useState } from 'preact/hooks';

export interface Palette {
  readonly text: string;
  readonly grid: string;
  readonly accent: string;
  readonly accentFaint: string;
  readonly data: string;
  readonly compute: string;
  readonly reduce: string;
  readonly gather: string;
  readonly apply: string;
  readonly rest: string;
  readonly warn: string;
  readonly bad: string;
  readonly font: string;
}

function read(): Palette {
  const style = getComputedStyle(document.documentElement);
  const of = (name: string): string => style.getPropertyValue(name).trim();
  return {
    text: of('--muted'),
    grid: of('--grid'),
    accent: of('--accent'),
    accentFaint: of('--accent-faint'),
    data: of('--data'),
    compute: of('--compute'),
    reduce: of('--reduce'),
    gather: of('--gather'),
    apply: of('--apply'),
    rest: of('--rest'),
    warn: of('--warn'),
    bad: of('--bad'),
    font: `11px ${of('--sans')}`,
  };
}

/** Changes with the scheme of the system. */
export function usePalette(): Palette {
  const [palette, setPalette] = useState(read);
  useEffect(() => {
    const dark = matchMedia('(prefers-color-scheme: dark)');
    const changed = () => setPalette(read());
    dark.addEventListener('change', changed);
    return () => dark.removeEventListener('change', changed);
  }, []);
  return palette;
}
