/** Join tokens for administrators. */
import { type ServerUnaryCall, type sendUnaryData, status, type UntypedServiceImplementation } from '@grpc/grpc-js';
import { joinTokenText, newJoinToken } from '../../shared/identity/join_token.js';
import { NAME, NAME_TEXT } from '../../shared/name.js';
import { WireError } from '../../shared/wire/codec.js';
import * as wire from '../../shared/wire/identity.js';
import { type JoinTokens, TooManyTokens } from './join_tokens.js';
import { type Refusal, Refused, refusal, refused } from './refusal.js';

const LEAST_LIFETIME_MS = 1_000;
const MOST_LIFETIME_MS = 7 * 86_400_000;

export interface TokensServiceOptions {
  readonly tokens: JoinTokens;
  /** Digest of the authority's certificate, and host:port of the Join service; undefined where nobody can join. */
  readonly joining: () => { readonly authority: Buffer; readonly address: string } | undefined;
}

export class TokensService {
  constructor(private readonly options: TokensServiceOptions) {}

  get implementation(): UntypedServiceImplementation {
    return {
      create: (call: ServerUnaryCall<unknown, unknown>, reply: sendUnaryData<unknown>) => {
        this.#create(call.request).then(
          (token) => reply(null, wire.joinToken.encode(token, 'JoinToken')),
          (error) => reply(refusalOf(error), null),
        );
      },
    };
  }

  async #create(request: unknown): Promise<wire.JoinToken> {
    const { worker, lifetimeMs } = wire.createTokenRequest.decode(request, 'CreateTokenRequest');
    const joining = this.options.joining();
    if (joining === undefined) {
      const message = 'this coordinator lets nobody join: its configuration has no join_listen and tls.ca_key';
      throw refused(status.INVALID_ARGUMENT, message);
    }
    if (!NAME.test(worker)) throw refused(status.INVALID_ARGUMENT, `worker: must be ${NAME_TEXT}`);
    if (lifetimeMs < LEAST_LIFETIME_MS || lifetimeMs > MOST_LIFETIME_MS) {
      throw refused(status.INVALID_ARGUMENT, 'a token lives from one second to seven days');
    }
    const token = newJoinToken(worker, joining.authority);
    const expiresMs = await this.options.tokens.add(token, lifetimeMs);
    return { token: joinTokenText(token), address: joining.address, expiresMs };
  }
}

function refusalOf(error: unknown): Refusal {
  if (error instanceof Refused) return error.refusal;
  if (error instanceof WireError) return refusal(status.INVALID_ARGUMENT, error.message);
  if (error instanceof TooManyTokens) return refusal(status.RESOURCE_EXHAUSTED, error.message);
  return refusal(status.ABORTED, error instanceof Error ? error.message : String(error));
}
