/** What a coordinator's configuration says of its dashboard: `host:port` alone, or a section. */
import { isIP } from 'node:net';
import { resolve } from 'node:path';
import { z } from 'zod';
import { hostAndPort, strictMap, textLike } from '../../shared/schema.js';

export interface ProxyConfig {
  /** Header with the name of whoever the proxy has let in; in lower case. Without it, the proxy lets nobody in. */
  readonly header: string | undefined;
  /** Header with their role; without it, or with another value than a role, they only look. */
  readonly roleHeader: string | undefined;
  /** Addresses, or networks such as 10.0.0.0/8, from which these headers and X-Forwarded-For are believed. */
  readonly from: readonly string[];
}

export interface DashboardConfig {
  /** host:port; port 0 takes a free one. */
  readonly listen: string;
  /** Host headers that are answered; empty: those that follow from `listen`. */
  readonly hosts: readonly string[];
  /** Where our own pages come from, as browsers say it; empty: `http://` and the host. */
  readonly origins: readonly string[];
  /** Absolute path of the file of tokens. */
  readonly tokens: string | undefined;
  readonly proxy: ProxyConfig | undefined;
}

const MAX_NAMES = 64;
const HOST = /^(\[[0-9a-fA-F:]{2,45}\]|[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?)(:[0-9]{1,5})?$/;
const ORIGIN = /^https?:\/\/(\[[0-9a-f:]{2,45}\]|[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)(:[0-9]{1,5})?$/;
const HEADER = /^[A-Za-z0-9-]{1,64}$/;

const names = <S extends z.ZodType>(one: S) => one.array().max(MAX_NAMES, { error: `must name at most ${MAX_NAMES}` });
const header = textLike(HEADER, 'the name of a header');
const networkText = 'an address such as 127.0.0.1, or a network such as 10.0.0.0/8';
const network = z.string({ error: `must be ${networkText}` }).refine(isNetwork, { error: `must be ${networkText}` });

const section = strictMap({
  listen: hostAndPort(),
  hosts: names(textLike(HOST, 'a host, with its port where that is not the usual one')).default([]),
  origins: names(textLike(ORIGIN, 'an origin such as https://lockstep.example, in lower case')).default([]),
  tokens: textLike(/^[^\0\n]{1,4096}$/, 'the path of a file').optional(),
  proxy: strictMap({
    header: header.optional(),
    role_header: header.optional(),
    from: names(network).min(1, { error: 'must name one address at least' }),
  }).optional(),
});

const address = hostAndPort();
const isAddressOrMap = (value: unknown): boolean => typeof value === 'object' || address.safeParse(value).success;

/** `host:port` is short for a section of nothing else. */
export const dashboardSection = z
  .unknown()
  .refine(isAddressOrMap, { error: 'must be host:port, or a map' })
  .transform((value) => (typeof value === 'string' ? { listen: value } : value))
  .pipe(section)
  .optional();

/** A relative path of a file of tokens begins in `folder`, where the configuration is. */
export function dashboardConfigOf(
  file: z.output<typeof dashboardSection>,
  folder: string,
): DashboardConfig | undefined {
  if (file === undefined) return undefined;
  const { listen, hosts, origins, tokens, proxy } = file;
  return Object.freeze({
    listen,
    hosts: hosts.map((host) => host.toLowerCase()),
    origins,
    tokens: tokens === undefined ? undefined : resolve(folder, tokens),
    proxy:
      proxy === undefined
        ? undefined
        : {
            header: proxy.header?.toLowerCase(),
            roleHeader: proxy.role_header?.toLowerCase(),
            from: proxy.from,
          },
  });
}

/** The prefix of a network, or of an address alone. */
export function networkOf(text: string): { readonly address: string; readonly bits: number; readonly family: 4 | 6 } {
  const [address = '', bits] = text.split('/');
  const family = isIP(address) === 6 ? 6 : 4;
  return { address, bits: bits === undefined ? (family === 6 ? 128 : 32) : Number(bits), family };
}

function isNetwork(text: string): boolean {
  if (!/^[0-9a-fA-F.:]+(\/[0-9]{1,3})?$/.test(text)) return false;
  const { address, bits, family } = networkOf(text);
  return isIP(address) !== 0 && bits <= (family === 6 ? 128 : 32);
}
