/** One JSON object a line on stdout, where journald or the launcher of a local cluster picks it up. */
import { createLogger as createWinston, format, type Logger, transports } from 'winston';

export type { Logger };

export type LogLevel = 'error' | 'warn' | 'info' | 'debug';

const withTime = format((info) => ({ ...info, time: new Date().toISOString() }));

// Whoever read this may be gone, a launcher that was killed; the daemon has still to end in good order.
process.stdout.on('error', () => undefined);

/** `daemon` is "coordinator" or "worker", `name` the configured name. Children add fields: `logger.child({ job })`. */
export function createLogger(daemon: string, name: string, level: LogLevel): Logger {
  return createWinston({
    level,
    defaultMeta: { daemon, name },
    format: format.combine(format.errors({ stack: true }), withTime(), format.json()),
    transports: [new transports.Console()],
  });
}
