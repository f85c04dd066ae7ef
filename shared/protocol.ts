/**
 * Number of the protocol that this version speaks: messages of daemons, and what they mean; names, chunks and the order of additions between
 * workers. A change after which daemons of this version and of the one before cannot work on one job raises it. Coordinators and workers
 * with different numbers have nothing to do with each other.
 */
export const PROTOCOL = 1;
