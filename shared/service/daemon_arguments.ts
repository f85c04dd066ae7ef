/** The command line of a daemon. */
import { parseArgs } from 'node:util';
import { ConfigError } from '../config.js';

export interface DaemonArguments {
  readonly config: string;
  /** Read the configuration and the certificates that it names, say whether they are right, and end. */
  readonly checkOnly: boolean;
}

/** Throws a ConfigError that says how it is used. */
export function daemonArguments(daemon: 'coordinator' | 'worker', args: readonly string[]): DaemonArguments {
  const usage = `usage: lockstep-${daemon} [--check-config] [--config FILE]`;
  try {
    const { values } = parseArgs({
      args: [...args],
      options: { config: { type: 'string' }, 'check-config': { type: 'boolean', default: false } },
    });
    return { config: values.config ?? `/etc/lockstep/${daemon}.yaml`, checkOnly: values['check-config'] };
  } catch (error) {
    throw new ConfigError(`${error instanceof Error ? error.message : String(error)}; ${usage}`);
  }
}

/** What --check-config says of a configuration that is right; `unchecked`: what could not be looked at, and why. */
export function rightText(configPath: string, unchecked: Readonly<Record<string, string | undefined>>): string {
  const unseen = Object.entries(unchecked).filter(([, reason]) => reason !== undefined);
  return `${configPath}: ok${unseen.map(([what, reason]) => `; ${what} not checked: ${reason}`).join('')}\n`;
}
