/** The JSON files of the benchmarks; bench/results/README.md documents them. */
import { writeFileSync } from 'node:fs';

/** Nothing without a path. */
export function writeReport(path: string | undefined, report: object): void {
  if (path !== undefined) writeFileSync(path, `${JSON.stringify(report, null, 1)}\n`);
}
