/** `lockstep certs`: the cluster's authority, certificates, and tokens for new workers. */
import { X509Certificate } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join as joinPath } from 'node:path';
import {
  createAuthority,
  DAY_MS,
  fingerprintOf,
  issue,
  requestFor,
  type Subject,
  validForDays,
} from '../../shared/certificates/authority.js';
import {
  mustTakeCertificate,
  mustTakeIdentity,
  readAuthority,
  replaceCertificate,
  writeAuthority,
  writeIdentity,
} from '../../shared/certificates/folder.js';
import { makeCertificate } from '../../shared/certificates/make.js';
import { credentialFilesOf } from '../../shared/identity/credential_files.js';
import { identityIn, type Role } from '../../shared/identity/identity.js';
import { parseJoinToken } from '../../shared/identity/join_token.js';
import { ETCD_NAME } from '../../shared/identity/tls_options.js';
import { join } from '../certs/join.js';
import type { Context } from '../context.js';
import { CliError, type ExitCode, exitCodes } from '../exit_codes.js';
import { type JsonOption, type ServerOption, serversOf, withClient } from '../options.js';
import { print } from '../output/print.js';
import { tableOf } from '../output/table.js';

export const DEFAULT_FOLDER = 'lockstep-certs';
export const AUTHORITY_DAYS = 3650;
export const CERTIFICATE_DAYS = 365;

interface AuthorityOption extends JsonOption {
  /** The authority's folder. */
  readonly dir: string;
}

interface DaysOption extends AuthorityOption {
  readonly days: number;
}

export interface IdentityOptions extends DaysOption {
  readonly address?: readonly string[];
}

export async function initAuthority(
  context: Context,
  folder: string,
  options: JsonOption & { readonly days: number },
): Promise<ExitCode> {
  const authority = await createAuthority(validForDays(options.days));
  writeAuthority(folder, authority);
  const fingerprint = fingerprintOf(authority.certificate).toString('hex');
  print(context, options, [{ event: 'certificate', folder, ...factsOf(authority.certificate), fingerprint }], () =>
    [`the authority is in ${folder}; whoever has its ca.key can be anybody in the cluster`, fingerprint].join('\n'),
  );
  return exitCodes.ok;
}

export function issueIdentity(context: Context, role: Role, name: string, options: IdentityOptions): Promise<ExitCode> {
  const identity = { role, name };
  const prefix = role === 'worker' || role === 'coordinator' ? role : 'user';
  const subject = { kind: 'identity', identity, addresses: options.address ?? [] } as const;
  return issueTo(context, joinPath(options.dir, `${prefix}-${name}`), subject, options);
}

export function issueEtcd(context: Context, name: string, options: IdentityOptions): Promise<ExitCode> {
  const { address: addresses = [] } = options;
  if (addresses.length === 0) {
    throw new CliError(exitCodes.usage, '--address: name the addresses by which etcd is reached, one each');
  }
  return issueTo(context, joinPath(options.dir, `etcd-${name}`), { kind: 'etcd', name, addresses }, options);
}

async function issueTo(context: Context, folder: string, subject: Subject, options: DaysOption): Promise<ExitCode> {
  const certificate = await makeCertificate(options.dir, folder, subject, validForDays(options.days));
  return made(context, options, folder, certificate);
}

/** The key stays, so that one file is replaced and nobody ever finds a key and a certificate that do not fit. */
export async function renew(context: Context, folder: string, options: DaysOption): Promise<ExitCode> {
  const authority = readAuthority(options.dir);
  const files = credentialFilesOf(folder);
  const old = certificateIn(files.certificate);
  const subject = subjectOf(files.certificate, old);
  const request = await requestFor(textOf(files.key));
  const certificate = await issue(authority, request, subject, validForDays(options.days));
  replaceCertificate(folder, certificate);
  return made(context, options, folder, certificate);
}

function made(context: Context, options: JsonOption, folder: string, certificate: string): ExitCode {
  const facts = factsOf(certificate);
  print(context, options, [{ event: 'certificate', folder, ...facts }], () => `${folder}  until ${facts.expires}`);
  return exitCodes.ok;
}

/** Ends with 1 when a certificate is not valid now. */
export function showCertificates(context: Context, paths: readonly string[], options: JsonOption): ExitCode {
  const facts = paths.map((path) => ({ file: path, ...factsOf(certificateIn(path).toString()) }));
  print(
    context,
    options,
    facts.map((one) => ({ event: 'certificate', ...one })),
    () =>
      tableOf(
        ['file', 'role', 'name', 'addresses', 'expires', 'days left'],
        facts.map(({ file, role, name, addresses, expires, days_left }) => [
          file,
          role,
          name,
          addresses.join(' '),
          expires,
          String(days_left),
        ]),
      ),
  );
  return facts.every((one) => one.valid) ? exitCodes.ok : exitCodes.jobFailed;
}

export interface TokenOptions extends JsonOption, ServerOption {
  /** Milliseconds. */
  readonly expires: number;
}

export async function createToken(context: Context, worker: string, options: TokenOptions): Promise<ExitCode> {
  const made = await withClient(context, options, (client) => client.createToken(worker, options.expires));
  const command = `lockstep certs join --server ${made.address} --token ${made.token} --dir worker-${worker}`;
  const expires = new Date(made.expiresMs).toISOString();
  print(
    context,
    options,
    [{ event: 'token', worker, token: made.token, address: made.address, expires_ms: made.expiresMs }],
    () => `on the new machine, once, before ${expires}:\n\n    ${command}`,
  );
  return exitCodes.ok;
}

export interface JoinOptions extends JsonOption {
  readonly server: string;
  readonly token: string;
  /** Where key and certificates go. */
  readonly dir: string;
}

export async function joinCluster(context: Context, options: JoinOptions): Promise<ExitCode> {
  serversOf(options.server);
  const files = credentialFilesOf(options.dir);
  const renewed = existsSync(files.certificate);
  if (renewed) mustBeOf(files.certificate, options.token);
  // Before the token is used up.
  if (renewed) mustTakeCertificate(options.dir);
  else mustTakeIdentity(options.dir);
  const joined = await join(options.server, options.token, renewed ? textOf(files.key) : undefined);
  if (renewed) replaceCertificate(options.dir, joined.certificate);
  else writeIdentity(options.dir, joined);
  return made(context, options, options.dir, joined.certificate);
}

/** A worker that has a certificate keeps its key, and its name. */
function mustBeOf(path: string, tokenText: string): void {
  const identity = identityIn(certificateIn(path).subjectAltName);
  const worker = parseJoinToken(tokenText)?.worker;
  if (identity?.role === 'worker' && identity.name === worker) return;
  throw new CliError(
    exitCodes.usage,
    `${path}: is there already, and is not that of worker ${worker ?? 'in the token'}`,
  );
}

function factsOf(pem: string) {
  const certificate = new X509Certificate(pem);
  const identity = identityIn(certificate.subjectAltName);
  const expiresMs = Date.parse(certificate.validTo);
  const nowMs = Date.now();
  const etcd = etcdNameIn(certificate);
  return {
    role: identity?.role ?? (etcd !== undefined ? 'etcd' : certificate.ca ? 'authority' : ''),
    name: identity?.name ?? etcd ?? certificate.subject.replace(/^CN=/, ''),
    addresses: addressesIn(certificate),
    expires: new Date(expiresMs).toISOString(),
    days_left: Math.floor((expiresMs - nowMs) / DAY_MS),
    valid: Date.parse(certificate.validFrom) <= nowMs && nowMs < expiresMs,
  };
}

function addressesIn({ subjectAltName }: X509Certificate): readonly string[] {
  const entries = (subjectAltName ?? '').split(', ');
  const addresses = entries.flatMap((entry) => /^(?:DNS|IP Address):(.+)$/.exec(entry)?.[1] ?? []);
  return addresses.filter((address) => address !== ETCD_NAME);
}

function etcdNameIn({ subject }: X509Certificate): string | undefined {
  return /^CN=etcd:(.+)$/.exec(subject)?.[1];
}

function subjectOf(path: string, certificate: X509Certificate): Subject {
  const addresses = addressesIn(certificate);
  const identity = identityIn(certificate.subjectAltName);
  if (identity !== undefined) return { kind: 'identity', identity, addresses };
  const name = etcdNameIn(certificate);
  if (name === undefined) throw new CliError(exitCodes.usage, `${path}: is no certificate of a Lockstep cluster`);
  return { kind: 'etcd', name, addresses };
}

function certificateIn(path: string): X509Certificate {
  const text = textOf(path);
  try {
    return new X509Certificate(text);
  } catch {
    throw new CliError(exitCodes.usage, `${path}: holds no certificate in PEM form`);
  }
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new CliError(exitCodes.usage, `${path}: ${error instanceof Error ? error.message : String(error)}`);
  }
}
