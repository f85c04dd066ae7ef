/** Where a new machine gets its first certificate for a token. Anybody may connect here, so there is little to be had, and slowly. */
import { X509Certificate } from 'node:crypto';
import {
  Server,
  type ServerUnaryCall,
  type sendUnaryData,
  status,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { type Authority, issue, validForDays } from '../../shared/certificates/authority.js';
import type { ConnectionLimits } from '../../shared/connection_limit.js';
import { parseJoinToken } from '../../shared/identity/join_token.js';
import type { Logger } from '../../shared/logger.js';
import { WireError } from '../../shared/wire/codec.js';
import * as wire from '../../shared/wire/identity.js';
import { JoinClient } from '../../shared/wire/services.js';
import { Allowance, type Allowed } from './allowance.js';
import type { AuditEntry, AuditTrail } from './audit_log.js';
import type { JoinTokens } from './join_tokens.js';
import { type Refusal, Refused, refusal, refused } from './refusal.js';
import { requestDeadline } from './request_deadline.js';

const MOST_MESSAGE_BYTES = 32 * 1024;
const MOST_STREAMS = 4;
export const JOIN_CONNECTIONS: ConnectionLimits = { inAll: 64, perAddress: 16 };
/** Of a request. */
const REQUEST_MS = 10_000;
/** Of a connection; whoever had it opens another one. */
const MOST_AGE_MS = 30_000;
const IDLE_MS = 10_000;
/** Attempts, of everybody together. */
const ALLOWED: Allowed = { atOnce: 10, everyMs: 1_000 };
const CERTIFICATE_DAYS = 90;

export interface JoinServiceOptions {
  readonly tokens: JoinTokens;
  readonly authority: () => Authority;
  readonly audit: AuditTrail;
  readonly log: Pick<Logger, 'warn'>;
  /** A parameter for tests only. */
  readonly nowMs?: () => number;
}

export function joinServer(options: JoinServiceOptions): Server {
  const server = new Server({
    'grpc.max_receive_message_length': MOST_MESSAGE_BYTES,
    'grpc.max_concurrent_streams': MOST_STREAMS,
    'grpc.max_connection_age_ms': MOST_AGE_MS,
    'grpc.max_connection_age_grace_ms': MOST_AGE_MS,
    'grpc.max_connection_idle_ms': IDLE_MS,
    'grpc.keepalive_time_ms': 5_000,
    'grpc.keepalive_timeout_ms': 5_000,
    interceptors: [requestDeadline(REQUEST_MS)],
  });
  server.addService(JoinClient.service, new JoinService(options).implementation);
  return server;
}

/** What an entry of the audit log says of an attempt, as far as it is known. */
interface Attempt {
  worker: string;
  certificate: string;
}

export class JoinService {
  readonly #attempts: Allowance;
  /** Attempts that were not looked at, and of which no entry says so yet. */
  #unseen = 0;

  constructor(private readonly options: JoinServiceOptions) {
    this.#attempts = new Allowance(ALLOWED, options.nowMs ?? (() => performance.now()));
  }

  get implementation(): UntypedServiceImplementation {
    return {
      join: (call: ServerUnaryCall<unknown, unknown>, reply: sendUnaryData<unknown>) => {
        if (!this.#attempts.take()) {
          const refused = refusal(status.RESOURCE_EXHAUSTED, 'too many attempts to join; try again in a while');
          this.#noteUnseen(call, refused);
          reply(refused, null);
          return;
        }
        const attempt: Attempt = { worker: '', certificate: '' };
        this.#join(call.request, attempt).then(
          (answer) => {
            this.#note(call, attempt);
            reply(null, wire.joinAnswer.encode(answer, 'JoinAnswer'));
          },
          (error) => {
            const refused = this.#refusalOf(error);
            this.#note(call, attempt, refused);
            reply(refused, null);
          },
        );
      },
    };
  }

  async #join(message: unknown, attempt: Attempt): Promise<wire.JoinAnswer> {
    const { audit, tokens } = this.options;
    if (audit.objection !== undefined) throw refused(status.RESOURCE_EXHAUSTED, audit.objection);
    const { token: text, request } = wire.joinRequest.decode(message, 'JoinRequest');
    const token = parseJoinToken(text);
    if (token === undefined) throw refused(status.PERMISSION_DENIED, 'that is no join token');
    attempt.worker = token.worker;
    const found = await tokens.find(token);
    if (typeof found === 'string') throw refused(status.PERMISSION_DENIED, found);
    const authority = this.options.authority();
    const certificate = await this.#certificate(authority, token.worker, request);
    // Last, so that what goes wrong before does not use up the token.
    if (!(await tokens.use(found))) throw refused(status.PERMISSION_DENIED, 'the token was used already');
    attempt.certificate = new X509Certificate(certificate).serialNumber;
    return { certificate, ca: authority.certificate };
  }

  async #certificate(authority: Authority, name: string, request: string): Promise<string> {
    try {
      const subject = { kind: 'identity', identity: { role: 'worker', name } } as const;
      return await issue(authority, request, subject, validForDays(CERTIFICATE_DAYS));
    } catch (error) {
      this.options.log.warn('a certificate could not be made', { worker: name, error: String(error) });
      throw refused(status.INVALID_ARGUMENT, 'no certificate can be made of this request');
    }
  }

  /** One entry for all of them in such a time: a flood must not fill the log. */
  #noteUnseen(call: ServerUnaryCall<unknown, unknown>, refused: Refusal): void {
    this.#unseen += 1;
    if (this.#unseen > 1) return;
    const note = (): void => {
      this.#record(call, { attempts: String(this.#unseen) }, refused);
      this.#unseen = 0;
    };
    setTimeout(note, ALLOWED.everyMs).unref();
  }

  #note(call: ServerUnaryCall<unknown, unknown>, { worker, certificate }: Attempt, refused?: Refusal): void {
    const named = { ...(worker === '' ? {} : { worker }), ...(certificate === '' ? {} : { certificate }) };
    this.#record(call, named, refused);
  }

  #record(call: ServerUnaryCall<unknown, unknown>, on: AuditEntry['on'], refused?: Refusal): void {
    this.options.audit.record({
      who: 'somebody with a token',
      from: call.getPeer(),
      call: 'Join.Join',
      on,
      outcome: refused === undefined ? 'OK' : status[refused.code],
      reason: refused?.details,
    });
  }

  #refusalOf(error: unknown): Refusal {
    if (error instanceof Refused) return error.refusal;
    if (error instanceof WireError) return refusal(status.INVALID_ARGUMENT, error.message);
    this.options.log.warn('a machine could not join', { error: String(error) });
    return refusal(status.ABORTED, 'the cluster cannot look at tokens now; try again');
  }
}
