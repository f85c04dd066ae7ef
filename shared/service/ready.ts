/** When a daemon is ready in the eyes of the service manager. */
import type { ServiceManager } from './service_manager.js';

const PATIENCE_MS = 30_000;

/**
 * When it is registered, so that whoever restarts one machine after the other can go on; but without etcd a daemon is ready, too, after a
 * while: it is watched from then on, and what other units wait for must not depend on another machine.
 */
export function readyWhen(registered: Promise<void>, manager: ServiceManager, who: string): void {
  const impatient = setTimeout(() => manager.ready(`${who}, without etcd`), PATIENCE_MS).unref();
  void registered.then(() => {
    clearTimeout(impatient);
    manager.ready(who);
  });
}
