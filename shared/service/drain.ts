/** The service manager's patience with a daemon that drains. */
import type { ServiceManager } from './service_manager.js';

const SAY_MS = 1_000;
const MORE_MS = 10_000;

/** Asks for more time again and again, until the process ends; a daemon that freezes meanwhile is killed soon. */
export function askForTime(manager: ServiceManager, status: string): void {
  manager.stopping(status);
  manager.extend(MORE_MS);
  setInterval(() => manager.extend(MORE_MS), SAY_MS).unref();
}
