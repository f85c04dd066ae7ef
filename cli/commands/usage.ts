/** `lockstep usage`: where the worker-hours of the cluster went, and who had them. */
import { formatDuration } from '../../shared/text/numbers.js';
import { clusterClassesOf, costText, hoursText, type Share, totalOf } from '../../shared/text/worker_time.js';
import type { Usage } from '../../shared/wire/jobs.js';
import type { Context } from '../context.js';
import { type ExitCode, exitCodes } from '../exit_codes.js';
import { type JsonOption, type ServerOption, withClient } from '../options.js';
import { usageJson } from '../output/json.js';
import { print } from '../output/print.js';
import { factsText, tableOf } from '../output/table.js';

export async function showUsage(context: Context, options: JsonOption & ServerOption): Promise<ExitCode> {
  const usage = await withClient(context, options, (client) => client.usage());
  print(context, options, [usageJson(usage)], () => usageText(usage));
  return exitCodes.ok;
}

export function usageText(usage: Usage): string {
  const shares = clusterClassesOf(usage);
  const total = totalOf(shares);
  const cost = (seconds: number): string =>
    usage.pricePerWorkerHour === 0 ? '' : costText(seconds, usage.pricePerWorkerHour);
  const facts = factsText([
    ['since', `${new Date(usage.sinceMs).toISOString()}, ${formatDuration((usage.timeMs - usage.sinceMs) / 1000)}`],
    ['workers', `${hoursText(total)} worker-hours`],
    ['of jobs', `${hoursText(usage.jobs.workerSeconds)} worker-hours`],
    ['cost', cost(total)],
    ['queue', `${hoursText(usage.jobs.queuedSeconds)} worker-hours were waited for`],
  ]);
  const row = ({ name, seconds }: Share) => [name, hoursText(seconds), percent(seconds, total), cost(seconds)];
  const classes = tableOf(['', 'hours', 'share', usage.pricePerWorkerHour === 0 ? '' : 'cost'], shares.map(row));
  const users = tableOf(
    ['user', 'hours lately'],
    usage.users.map(({ user, workerSeconds }) => [user, hoursText(workerSeconds)]),
  );
  return [facts, '', classes, ...(usage.users.length === 0 ? [] : ['', users])].join('\n');
}

function percent(seconds: number, total: number): string {
  return total === 0 ? '' : `${((100 * seconds) / total).toFixed(1)} %`;
}
