/** Events and commands as one line, for people. */

/** Maps and sets do not show in JSON. */
export function textOf(value: unknown): string {
  return JSON.stringify(value, (key, inner: unknown) => {
    if (key === 'spec' || key === 'consumed' || key === 'samples') return undefined;
    if (inner instanceof Map) return Object.fromEntries(inner);
    return inner;
  });
}
