/** Who may do what: a viewer looks, a submitter also submits jobs and cancels his own, an admin also those of others. */

export const ROLES = ['viewer', 'submitter', 'admin'] as const;
export type Role = (typeof ROLES)[number];

export function roleOf(text: string): Role | undefined {
  return ROLES.find((role) => role === text);
}

/** Each role may do what those before it may. */
export function mayActAs(role: Role, needed: Role): boolean {
  return ROLES.indexOf(role) >= ROLES.indexOf(needed);
}
