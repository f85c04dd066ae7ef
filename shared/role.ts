/** Who may do what: a viewer looks, a submitter also submits jobs and cancels his own, an admin also those of others. */

export const USER_ROLES = ['viewer', 'submitter', 'admin'] as const;
export type UserRole = (typeof USER_ROLES)[number];

export function roleOf(text: string): UserRole | undefined {
  return USER_ROLES.find((role) => role === text);
}

/** Each role may do what those before it may. */
export function mayActAs(role: UserRole, needed: UserRole): boolean {
  return USER_ROLES.indexOf(role) >= USER_ROLES.indexOf(needed);
}

/** Whether the job is out of bounds for somebody who may only change his own. */
export function isOthersJob({ role, name }: { readonly role: string; readonly name: string }, owner: string): boolean {
  return role === 'submitter' && name !== owner;
}
