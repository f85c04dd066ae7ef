/** One JSON object a line on stdout, where journald or the launcher of a local cluster picks it up. */
import { createLogger as createWinston, format, type Logger, transports } from 'winston';

export type { Logger };

export type LogLevel = 'error' | 'warn' | 'info' | 'debug';

const withTime = format((info) => ({ ...info, time: new Date().toISOString() }));

/** What a line is about, where that is known. docs/logs.md describes the fields. */
export interface LogContext {
  readonly job?: string | undefined;
  /** Steps that are committed: the number of the step in flight. */
  readonly step?: number | undefined;
  readonly generation?: number | undefined;
  readonly worker?: string | undefined;
}

// Whoever read this may be gone, a launcher that was killed; the daemon has still to end in good order.
process.stdout.on('error', () => undefined);

/**
 * `daemon` is "coordinator" or "worker", `name` the configured name. `context` is what every line is about that does not say otherwise,
 * asked at each line. Children add fields: `logger.child({ job })`.
 */
export function createLogger(
  daemon: string,
  name: string,
  level: LogLevel,
  context: () => LogContext = () => ({}),
): Logger {
  const inContext = format((info) => ({ ...context(), ...info }));
  return createWinston({
    level,
    defaultMeta: { daemon, name },
    format: format.combine(format.errors({ stack: true }), inContext(), withTime(), format.json()),
    transports: [new transports.Console()],
  });
}
