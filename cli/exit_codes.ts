/** How the command line ends; the README lists them. */
import type { JobState } from '../shared/wire/jobs.js';

export const exitCodes = {
  ok: 0,
  jobFailed: 1,
  usage: 2,
  notFound: 3,
  unreachable: 4,
  notAllowed: 5,
  timedOut: 124,
  interrupted: 130,
} as const;

export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

/** A command ends with this code; the message is one line that says what was wrong, where, and what to do. */
export class CliError extends Error {
  constructor(
    readonly exitCode: ExitCode,
    message: string,
  ) {
    super(message);
    this.name = 'CliError';
  }
}

export function exitCodeOfJob(state: JobState): ExitCode {
  return state === 'finished' ? exitCodes.ok : exitCodes.jobFailed;
}
