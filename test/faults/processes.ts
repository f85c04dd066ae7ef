/** Processes of a cluster, found in /proc by what they were started with: they are started again and change their ids. */
import { readdirSync, readFileSync } from 'node:fs';

export interface Process {
  readonly pid: number;
  readonly parent: number;
  /** T for one that is stopped, Z for one that is dead and not yet buried. */
  readonly state: string;
  readonly command: readonly string[];
}

export function processes(): readonly Process[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .flatMap((entry) => readProcess(Number(entry)) ?? []);
}

function readProcess(pid: number): Process | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The command in the second field may contain spaces and parentheses.
    const [state = '', parent = ''] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const command = readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0');
    return { pid, parent: Number(parent), state, command };
  } catch {
    return undefined; // It has just ended.
  }
}

/** Whether the process is there and not merely waiting to be buried. */
export function isAlive(pid: number): boolean {
  const state = readProcess(pid)?.state;
  return state !== undefined && state !== 'Z';
}

/** A daemon or etcd of the cluster in `folder`; 0 while it does not run. `name` is w1, c1 or etcd. */
export function daemonPid(folder: string, name: string): number {
  const path = name === 'etcd' ? `${folder}/etcd` : `${folder}/${name}.yaml`;
  // Before it becomes the daemon, the process is setpriv or ip, with the daemon's command at the end.
  const found = processes().find(
    ({ command, state }) => state !== 'Z' && command.includes(path) && /(^|\/)(node|etcd)$/.test(command[0] ?? ''),
  );
  return found?.pid ?? 0;
}

/** The engine of a worker daemon; 0 when there is none. */
export function enginePid(daemon: number): number {
  const found = processes().find(({ parent, command }) => parent === daemon && command.includes('lockstep.engine'));
  return found?.pid ?? 0;
}

/** Everything that was started with a path of the cluster, and the engines that are left. */
export function processesOf(folder: string): readonly Process[] {
  return processes().filter(({ command, state }) => state !== 'Z' && command.some((word) => word.startsWith(folder)));
}
