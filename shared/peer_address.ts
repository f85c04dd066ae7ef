/** Addresses of Peer services: host:port, of which the port is what follows the last colon. */
export function hostOf(address: string): string {
  return address.slice(0, address.lastIndexOf(':'));
}
