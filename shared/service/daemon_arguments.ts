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

/** What --check-config says of a configuration that is right; `unchecked` is why its certificates could not be looked at. */
export function rightText(configPath: string, unchecked: string | undefined): string {
  return `${configPath}: ok${unchecked === undefined ? '' : `; certificates not checked: ${unchecked}`}\n`;
}
