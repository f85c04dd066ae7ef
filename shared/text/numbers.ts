/** Numbers as people read them. */

export function formatLoss(loss: number): string {
  return Number.isFinite(loss) ? loss.toFixed(4) : String(loss);
}

export function formatRate(perSecond: number): string {
  return perSecond >= 100 ? Math.round(perSecond).toLocaleString('en') : perSecond.toPrecision(3);
}

/** "512 B", "1.5 MB": powers of 1000, as disks are sold. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  const power = bytes < 1000 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(bytes) / 3));
  const value = bytes / 1000 ** power;
  // What would be rounded to three digits before the point has an exponent otherwise.
  return `${power === 0 || value >= 99.5 ? Math.round(value) : value.toPrecision(2)} ${units[power]}`;
}

/** "4.1 of 33 GB", "900 MB of 33 GB". */
export function formatBytesOf(used: number, all: number): string {
  const [shown, total] = [formatBytes(used), formatBytes(all)];
  const unit = total.slice(total.indexOf(' '));
  return `${shown.endsWith(unit) ? shown.slice(0, -unit.length) : shown} of ${total}`;
}

/** "8s", "2m05s", "3h20m". */
export function formatDuration(seconds: number): string {
  const whole = Math.max(0, Math.ceil(seconds));
  if (whole < 60) return `${whole}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m${String(whole % 60).padStart(2, '0')}s`;
  return `${Math.floor(whole / 3600)}h${String(Math.floor((whole % 3600) / 60)).padStart(2, '0')}m`;
}

export function formatMetrics(metrics: ReadonlyMap<string, number>): string {
  return [...metrics].map(([name, value]) => `${name} ${Number(value.toPrecision(6))}`).join(', ');
}
