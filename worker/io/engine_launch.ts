/** How engines, and what has to be done in their name, are started: as which user, and within which limits of a process. */
import { execFile } from 'node:child_process';
import { ConfigError } from '../../shared/config.js';

const HELPER_SECONDS = 60;
/** Longer than that, so that it is a helper's own deadline which ends it. */
const GIVE_UP_AFTER_SECONDS = 5;
/** Of `timeout` when it had to. */
const KILLED = 137;

export interface EngineLaunch {
  /** Undefined: the daemon's own. */
  readonly user: string | undefined;
  /** Largest file that the engine may write. */
  readonly fileMaxBytes: number | undefined;
}

export interface Command {
  readonly program: string;
  readonly args: readonly string[];
}

/**
 * The command with what has to come before it. The user's code keeps the daemon's group, which may read what the daemon writes and
 * change nothing of it, and has the groups that the machine gives its user (those of GPU devices, say).
 */
export function asEngine({ user, fileMaxBytes }: EngineLaunch, command: Command): Command {
  return withLimits(fileMaxBytes, withUser(user, command));
}

function withLimits(fileMaxBytes: number | undefined, { program, args }: Command): Command {
  if (fileMaxBytes === undefined) return { program, args };
  return { program: 'prlimit', args: [`--fsize=${fileMaxBytes}`, '--core=0', program, ...args] };
}

function withUser(user: string | undefined, { program, args }: Command): Command {
  if (user === undefined) return { program, args };
  const group = String(process.getgid?.() ?? 0);
  const identity = ['--reuid', user, '--regid', group, '--init-groups'];
  // A change from one ordinary user to another keeps capabilities, unless they are dropped.
  const powers = ['--inh-caps=-all', '--ambient-caps=-all', '--no-new-privs'];
  return { program: 'setpriv', args: [...identity, ...powers, program, ...args] };
}

export interface HelperEnd {
  readonly printed: string;
  /** Empty when all went well. */
  readonly complaints: readonly string[];
}

const helpers = new Set<number>();

/** Processes of this one that are no engines and no orphans of theirs. */
export function helperPids(): ReadonlySet<number> {
  return helpers;
}

/**
 * Runs a short command as the engine would. Only root, or that user itself, can signal what runs as another user; so the deadline is a process of that
 * user, too (coreutils' `timeout`).
 */
export function helpAsEngine(
  { user }: Pick<EngineLaunch, 'user'>,
  command: Command,
  seconds = HELPER_SECONDS,
): Promise<HelperEnd> {
  const bounded = ['--signal=KILL', String(seconds), command.program, ...command.args];
  const { program, args } = withUser(user, { program: 'timeout', args: bounded });
  const limits = { timeout: (seconds + GIVE_UP_AFTER_SECONDS) * 1000, killSignal: 'SIGKILL' } as const;
  return new Promise((resolve) => {
    const child = execFile(program, args, limits, (error, printed, stderr) => {
      const complaints = stderr.split('\n').filter((line) => line !== '');
      const isLate = error !== null && (error.killed === true || error.code === KILLED || error.signal === 'SIGKILL');
      if (isLate) complaints.push(`${command.program}: was not done in ${seconds} s`);
      else if (error !== null && complaints.length === 0) complaints.push(error.message);
      resolve({ printed, complaints: error === null ? [] : complaints });
    });
    const { pid } = child;
    if (pid === undefined) return;
    helpers.add(pid);
    // Before what it printed is handed over; one that could not be ended stays known.
    child.once('exit', () => helpers.delete(pid));
  });
}

/** Throws a ConfigError when engines could not be started, or not be ended. */
export async function checkLaunch(launch: EngineLaunch, hasGroups: boolean): Promise<void> {
  if (launch.user === undefined) return;
  if (!hasGroups && process.getuid?.() !== 0) {
    throw new ConfigError(
      'engine.user: engines of another user can only be ended through a control group of their own, and this daemon was given none; ' +
        'run it as a unit with Delegate=yes, or leave the key out',
    );
  }
  const { complaints } = await helpAsEngine(launch, { program: 'true', args: [] });
  if (complaints.length === 0) return;
  throw new ConfigError(`engine.user: nothing can be run as ${launch.user}: ${complaints.join('; ')}`);
}
