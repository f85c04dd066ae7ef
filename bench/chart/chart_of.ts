/** The chart of a report, by the benchmark that wrote it. */
import { z } from 'zod';
import { controlChart, controlReport } from './control.js';
import { allreduceReport, ratiosChart, trainReport } from './ratios.js';

const report = z.discriminatedUnion('benchmark', [allreduceReport, trainReport, controlReport]);

/** Throws a ZodError for what is no report of these benchmarks. */
export function chartOf(value: unknown): string {
  const known = report.parse(value);
  return known.benchmark === 'control' ? controlChart(known) : ratiosChart(known);
}
