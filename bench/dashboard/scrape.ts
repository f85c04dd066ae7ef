/** What a coordinator says of itself at /metrics. */

const SCRAPE_MS = 5_000;

export interface Scraped {
  /** Of all jobs, since it leads. */
  readonly steps: number;
  readonly viewers: number;
  readonly lagging: number;
  /** How late its main loop was: 99th percentile of the last five seconds. */
  readonly loopDelayMs: number;
  readonly term: number;
}

export async function scrape(url: string): Promise<Scraped> {
  const answer = await fetch(`${url}/metrics`, { signal: AbortSignal.timeout(SCRAPE_MS) });
  const text = await answer.text();
  const sum = (name: string): number =>
    [...text.matchAll(new RegExp(`^lockstep_${name}(?:\\{.*\\})? (\\S+)$`, 'gm'))].reduce(
      (total, [, value]) => total + Number(value),
      0,
    );
  return {
    steps: sum('job_steps_total'),
    viewers: sum('dashboard_viewers'),
    lagging: sum('dashboard_viewers_lagging'),
    loopDelayMs: sum('coordinator_loop_delay_seconds') * 1000,
    term: sum('term'),
  };
}
