/** The cluster's authority: a key that signs certificates, each with one role and name in it. EC keys on P-256 everywhere. */
import { createHash, randomBytes, X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { type Identity, uriOf } from '../identity/identity.js';
import { ETCD_NAME } from '../identity/tls_options.js';
import { CertificateError, CONFIGURATION_FILE, OpenSsl } from './openssl.js';

const CURVE = 'prime256v1';
const KEY = 'key.pem';
const REQUEST = 'request.pem';
const MADE = 'certificate.pem';
const HOUR_MS = 3_600_000;
export const DAY_MS = 24 * HOUR_MS;
/** Certificates are valid from this long ago, because the clock of another machine may be behind. */
const EARLIER_MS = HOUR_MS;

/** PEM. */
export interface Authority {
  readonly certificate: string;
  readonly key: string;
}

export interface KeyAndRequest {
  readonly key: string;
  readonly request: string;
}

/** What a certificate is for. */
export type Subject =
  | { readonly kind: 'identity'; readonly identity: Identity; readonly addresses?: readonly string[] }
  /** A member of the etcd cluster, which the other members know by its address. */
  | { readonly kind: 'etcd'; readonly name: string; readonly addresses: readonly string[] };

/** Milliseconds since 1970. */
export interface Validity {
  readonly fromMs: number;
  readonly toMs: number;
}

export function validForDays(days: number, nowMs = Date.now()): Validity {
  return { fromMs: nowMs - EARLIER_MS, toMs: nowMs + days * DAY_MS };
}

export async function createAuthority(validity: Validity): Promise<Authority> {
  // A name of its own, so that an authority and the one that replaces it can be told apart.
  const subject = `Lockstep authority ${randomBytes(4).toString('hex')}`;
  const extensions = [
    'basicConstraints = critical,CA:TRUE,pathlen:0',
    'keyUsage = critical,keyCertSign,cRLSign',
    'subjectKeyIdentifier = hash',
  ];
  return OpenSsl.with(subject, extensions, async (openssl) => {
    const key = await newKey(openssl);
    await openssl.write(REQUEST, await newRequest(openssl, key));
    return { certificate: await sign(openssl, key, ['-selfsign'], validity), key };
  });
}

/** A key, and the request for its certificate. What the request says of its owner is not believed by anybody. */
export async function createKey(): Promise<KeyAndRequest> {
  return OpenSsl.with('lockstep', [], async (openssl) => {
    const key = await newKey(openssl);
    return { key, request: await newRequest(openssl, key) };
  });
}

/** A request for a certificate of a key that is there already. */
export async function requestFor(key: string): Promise<string> {
  return OpenSsl.with('lockstep', [], (openssl) => newRequest(openssl, key));
}

/** Of the request only the key is taken. The certificate does not outlive the authority's. */
export async function issue(
  authority: Authority,
  request: string,
  subject: Subject,
  { fromMs, toMs }: Validity,
): Promise<string> {
  const extensions = [
    'basicConstraints = critical,CA:FALSE',
    'keyUsage = critical,digitalSignature',
    `extendedKeyUsage = ${usesOf(subject)}`,
    'subjectKeyIdentifier = hash',
    'authorityKeyIdentifier = keyid',
    `subjectAltName = ${alternativeNamesOf(subject).join(',')}`,
  ];
  const endMs = Date.parse(new X509Certificate(authority.certificate).validTo);
  const certificate = await OpenSsl.with('lockstep', extensions, async (openssl) => {
    await openssl.write('authority.pem', authority.certificate);
    await openssl.write(REQUEST, request);
    const signer = ['-cert', 'authority.pem', '-subj', `/CN=${commonNameOf(subject)}`];
    return sign(openssl, authority.key, signer, { fromMs, toMs: Math.min(toMs, endMs) });
  });
  const { asymmetricKeyType, asymmetricKeyDetails } = new X509Certificate(certificate).publicKey;
  if (asymmetricKeyType !== 'ec' || asymmetricKeyDetails?.namedCurve !== CURVE) {
    throw new CertificateError('the request has a key of another kind than EC P-256');
  }
  return certificate;
}

/** By which joiners know the authority: SHA-256 of its certificate. */
export function fingerprintOf(certificate: string | Buffer): Buffer {
  return createHash('sha256').update(new X509Certificate(certificate).raw).digest();
}

function newKey(openssl: OpenSsl): Promise<string> {
  const curve = ['-pkeyopt', `ec_paramgen_curve:${CURVE}`, '-pkeyopt', 'ec_param_enc:named_curve'];
  return openssl.run('genpkey', '-algorithm', 'EC', ...curve);
}

async function newRequest(openssl: OpenSsl, key: string): Promise<string> {
  await openssl.write(KEY, key);
  return openssl.run('req', '-config', CONFIGURATION_FILE, '-new', '-key', KEY);
}

/** Signs REQUEST. */
async function sign(
  openssl: OpenSsl,
  key: string,
  signer: readonly string[],
  { fromMs, toMs }: Validity,
): Promise<string> {
  const from = ['-startdate', timeText(fromMs), '-enddate', timeText(toMs)];
  const how = ['-config', CONFIGURATION_FILE, '-batch', '-notext', '-extensions', 'extensions'];
  await openssl.write(KEY, key);
  await openssl.run('ca', ...how, ...from, ...signer, '-keyfile', KEY, '-in', REQUEST, '-out', MADE);
  return openssl.read(MADE);
}

/** As openssl takes it: 20261129060510Z. */
function timeText(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19).replace(/[-T:]/g, '')}Z`;
}

function commonNameOf(subject: Subject): string {
  return subject.kind === 'etcd' ? `etcd:${subject.name}` : `${subject.identity.role}:${subject.identity.name}`;
}

function alternativeNamesOf(subject: Subject): readonly string[] {
  const addresses = (subject.addresses ?? []).map((one) => `${isIP(one) === 0 ? 'DNS' : 'IP'}:${one}`);
  return subject.kind === 'etcd'
    ? [`DNS:${ETCD_NAME}`, ...addresses]
    : [`URI:${uriOf(subject.identity)}`, ...addresses];
}

/** Workers serve each other, coordinators serve all; people only ask. */
function usesOf(subject: Subject): string {
  const serves = subject.kind === 'etcd' || ['coordinator', 'worker'].includes(subject.identity.role);
  return serves ? 'serverAuth,clientAuth' : 'clientAuth';
}
