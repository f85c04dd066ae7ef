/** What `npm audit --json` says of what ships: more than with --omit=dev, which leaves out what is built into the page. */
import { z } from 'zod';

/** Exit status of `npm run audit`: that nobody knows is not that nothing was found. */
export const AUDIT_EXIT = { clean: 0, found: 1, unanswered: 2 } as const;

export interface Audit {
  readonly outcome: keyof typeof AUDIT_EXIT;
  readonly lines: readonly string[];
}

const advisory = z.object({ title: z.string(), url: z.string(), severity: z.string(), range: z.string() });
const report = z.object({
  vulnerabilities: z.record(
    z.string(),
    z.object({
      severity: z.string(),
      range: z.string(),
      /** Advisories, and names of packages that it has its fault from. */
      via: z.array(z.union([z.string(), advisory])),
      nodes: z.array(z.string()),
    }),
  ),
});
const failure = z.object({ message: z.string() });

export function auditOf(output: string, shipped: readonly string[]): Audit {
  const said = jsonIn(output);
  const answer = report.safeParse(said).data;
  if (answer === undefined) {
    const reason = failure.safeParse(said).data?.message ?? 'npm audit printed no report';
    return { outcome: 'unanswered', lines: [`this registry does not answer audits: nothing is known (${reason})`] };
  }
  const found = Object.entries(answer.vulnerabilities).filter(([, { nodes }]) =>
    nodes.some((path) => shipped.includes(path)),
  );
  if (found.length === 0) return { outcome: 'clean', lines: [`nothing known of the ${shipped.length} that ship`] };
  return { outcome: 'found', lines: found.flatMap(([name, { via }]) => via.map((one) => lineOf(name, one))) };
}

function lineOf(name: string, via: string | z.output<typeof advisory>): string {
  if (typeof via === 'string') return `${name}: by ${via}`;
  return `${name} ${via.range}: ${via.severity}: ${via.title} ${via.url}`;
}

function jsonIn(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
