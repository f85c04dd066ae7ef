/** Addresses as configurations have them: host:port, of which the port is what follows the last colon. */

/** As it is written: with the brackets of an IPv6 address. */
export function hostOf(address: string): string {
  return address.slice(0, address.lastIndexOf(':'));
}

/** As the system takes it: without them. */
export function bareHostOf(address: string): string {
  return hostOf(address).replace(/^\[|\]$/g, '');
}

export function portOf(address: string): number {
  return Number(address.slice(address.lastIndexOf(':') + 1));
}
