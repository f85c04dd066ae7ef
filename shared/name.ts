/** Names of daemons, jobs, users and labels: what a file, a certificate and an address can carry as it is. */

/** As part of other patterns. */
export const NAME_PATTERN = '[A-Za-z0-9][A-Za-z0-9._-]{0,62}';
export const NAME = new RegExp(`^${NAME_PATTERN}$`);
export const NAME_TEXT = "1 to 63 of A-Z, a-z, 0-9, '.', '_' and '-', beginning with a letter or digit";
