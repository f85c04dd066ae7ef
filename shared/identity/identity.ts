/** Who somebody is: a role and a name, which a certificate carries as one URI among its alternative names. */

import { NAME_PATTERN } from '../name.js';
import { USER_ROLES } from '../role.js';

export const ROLES = ['coordinator', 'worker', ...USER_ROLES] as const;
export type Role = (typeof ROLES)[number];

export interface Identity {
  readonly role: Role;
  readonly name: string;
}

const OURS = new RegExp(`^URI:lockstep://([a-z]+)/(${NAME_PATTERN})$`);

export function uriOf({ role, name }: Identity): string {
  return `lockstep://${role}/${name}`;
}

/** For people: "worker w1". */
export function described({ role, name }: Identity): string {
  return `${role} ${name}`;
}

/**
 * The identity in a certificate's alternative names, as Node writes them: "URI:lockstep://worker/w1, DNS:...". Undefined if there is none, or more
 * than one. Node puts a name with unusual characters in quotation marks; such a list could be read in two ways and is not read at all.
 */
export function identityIn(alternativeNames: string | undefined): Identity | undefined {
  if (alternativeNames === undefined || alternativeNames.includes('"')) return undefined;
  const found = alternativeNames.split(', ').flatMap((entry) => identityOfEntry(entry) ?? []);
  return found.length === 1 ? found[0] : undefined;
}

function identityOfEntry(entry: string): Identity | undefined {
  const [, roleText, name = ''] = OURS.exec(entry) ?? [];
  const role = ROLES.find((one) => one === roleText);
  return role === undefined ? undefined : { role, name };
}

/** Whom somebody expects at the other end; without a name, anybody of the role. */
export interface Expected {
  readonly role: Role;
  readonly name?: string | undefined;
}

/** Why the owner of these alternative names is not the expected one; undefined if it is. */
export function mismatch(alternativeNames: string | undefined, expected: Expected): string | undefined {
  const found = identityIn(alternativeNames);
  if (found !== undefined && found.role === expected.role && (expected.name ?? found.name) === found.name) {
    return undefined;
  }
  const wanted = expected.name === undefined ? `a ${expected.role}` : `${expected.role} ${expected.name}`;
  return `the certificate is ${found === undefined ? "nobody's" : `that of ${described(found)}`}, not of ${wanted}`;
}
