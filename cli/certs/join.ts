/** A new machine's way to its first certificate: the key is made here and stays here. */
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { connect, type DetailedPeerCertificate } from 'node:tls';
import { Metadata } from '@grpc/grpc-js';
import { createKey, fingerprintOf, requestFor } from '../../shared/certificates/authority.js';
import { joinChannelCredentials, TLS_CHANNEL_OPTIONS } from '../../shared/identity/grpc_credentials.js';
import { parseJoinToken } from '../../shared/identity/join_token.js';
import { SERVER_NAME } from '../../shared/identity/tls_options.js';
import { type JoinAnswer, joinAnswer, joinRequest } from '../../shared/wire/identity.js';
import { JoinClient } from '../../shared/wire/services.js';
import { callFailure } from '../call_errors.js';
import { CliError, exitCodes } from '../exit_codes.js';

const CONNECT_MS = 10_000;
const CALL_MS = 30_000;
/** The digest of the authority was asked of the server itself, and so is this. */
const CHANNEL_OPTIONS = { 'grpc.enable_http_proxy': 0, ...TLS_CHANNEL_OPTIONS };

export interface Joined extends JoinAnswer {
  readonly worker: string;
  readonly key: string;
}

/** With `oldKey` it is that key's new certificate. Throws a CliError. The token is sent to nobody but a coordinator of the cluster that made it. */
export async function join(server: string, tokenText: string, oldKey?: string): Promise<Joined> {
  const token = parseJoinToken(tokenText);
  if (token === undefined) throw new CliError(exitCodes.usage, '--token: that is no join token');
  const ca = await authorityOf(server, token.authority);
  const { key, request } =
    oldKey === undefined ? await createKey() : { key: oldKey, request: await requestFor(oldKey) };
  const answer = await ask(server, ca, tokenText, request);
  return { ...answer, worker: token.worker, key };
}

/** The certificate, PEM, among those that the server sends which has this digest. */
async function authorityOf(server: string, digest: Buffer): Promise<string> {
  const chain = await certificatesOf(server);
  const found = chain.find((raw) => fingerprintOf(raw).equals(digest));
  if (found === undefined) {
    throw new CliError(
      exitCodes.notAllowed,
      `${server}: is not of the cluster that made the token; nothing was sent to it`,
    );
  }
  return `-----BEGIN CERTIFICATE-----\n${found.toString('base64').replace(/.{64}/g, '$&\n')}\n-----END CERTIFICATE-----\n`;
}

/** Whatever certificates the server sends; nothing is believed of them here. */
async function certificatesOf(server: string): Promise<readonly Buffer[]> {
  const { hostname, port } = new URL(`https://${server}`);
  const socket = connect({
    host: hostname.replace(/^\[|\]$/g, ''),
    port: Number(port === '' ? 443 : port),
    servername: SERVER_NAME,
    ALPNProtocols: ['h2'],
    rejectUnauthorized: false,
  });
  const given = new AbortController();
  const tooLate = delay(CONNECT_MS, undefined, { signal: given.signal }).then(() => {
    throw new Error('no answer');
  });
  try {
    await Promise.race([once(socket, 'secureConnect'), tooLate]);
    return rawChain(socket.getPeerCertificate(true));
  } catch (error) {
    // OpenSSL ends what it says with a line feed.
    const reason = (error instanceof Error ? error.message : String(error)).trim();
    throw new CliError(exitCodes.unreachable, `${server}: ${reason}; check --server: it is the address in join_listen`);
  } finally {
    given.abort();
    tooLate.catch(() => undefined);
    socket.destroy();
  }
}

/** An authority's certificate names itself as its issuer. */
function rawChain(first: DetailedPeerCertificate): readonly Buffer[] {
  const chain: Buffer[] = [];
  for (let next: DetailedPeerCertificate | undefined = first; next?.raw !== undefined; next = next.issuerCertificate) {
    if (chain.some((raw) => raw.equals(next?.raw ?? Buffer.alloc(0)))) break;
    chain.push(next.raw);
  }
  return chain;
}

async function ask(server: string, ca: string, token: string, request: string): Promise<JoinAnswer> {
  const method = JoinClient.service['Join'];
  if (method === undefined) throw new Error('identity.proto has no method Join');
  const client = new JoinClient(server, joinChannelCredentials(ca), CHANNEL_OPTIONS);
  try {
    return await new Promise<JoinAnswer>((resolve, reject) => {
      client.makeUnaryRequest<unknown, unknown>(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        joinRequest.encode({ token, request }, 'JoinRequest'),
        new Metadata(),
        { deadline: Date.now() + CALL_MS },
        (error, answer) => {
          if (error !== null) reject(error);
          else resolve(joinAnswer.decode(answer, 'JoinAnswer'));
        },
      );
    });
  } catch (error) {
    const failure = callFailure(error);
    if (failure.kind === 'final') throw failure.error;
    const reason = 'reason' in failure ? failure.reason : 'no answer in time';
    throw new CliError(exitCodes.unreachable, `${server}: ${reason}`);
  } finally {
    client.close();
  }
}
