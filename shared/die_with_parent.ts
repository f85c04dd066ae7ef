/** For daemons that belong to one command: when it dies, however it dies, they do. */
import koffi from 'koffi';

const PR_SET_PDEATHSIG = 1;
const SIGTERM = 15;

/** Asks the kernel for a SIGTERM when the parent process dies; ends this process if it is dead already. Returns whether it has died since. */
export function dieWithParent(): () => boolean {
  const parent = process.ppid;
  const prctl = koffi.load('libc.so.6').func('int prctl(int option, unsigned long argument)');
  if (prctl(PR_SET_PDEATHSIG, SIGTERM) !== 0) throw new Error(`prctl failed with errno ${koffi.errno()}`);
  if (process.ppid !== parent) process.exit(1);
  return () => process.ppid !== parent;
}
