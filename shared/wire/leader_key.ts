/** Key of the metadata with which a coordinator that does not lead names the host:port of the one that does. */
export const LEADER_KEY = 'lockstep-leader';
