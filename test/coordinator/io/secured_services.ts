/** A coordinator's services behind their guard, over real TLS: a leader that knows one job of bob's, and no etcd. */
import { Server, type ServiceClientConstructor } from '@grpc/grpc-js';
import type { CoordinatorEvent } from '../../../coordinator/core/event.js';
import { NOTHING_SPENT } from '../../../coordinator/core/spent.js';
import { DEFAULT_SETTINGS, initialState, type JobRecord } from '../../../coordinator/core/state.js';
import type { AuditEntry } from '../../../coordinator/io/audit_log.js';
import { BundleKeeper } from '../../../coordinator/io/bundle_keeper.js';
import { BundleStore } from '../../../coordinator/io/bundle_store.js';
import { BundlesService } from '../../../coordinator/io/bundles_service.js';
import { Driver } from '../../../coordinator/io/driver.js';
import { listenForGrpc } from '../../../coordinator/io/grpc_port.js';
import { guarded } from '../../../coordinator/io/guard.js';
import { JobsService } from '../../../coordinator/io/jobs_service.js';
import { JoinTokens } from '../../../coordinator/io/join_tokens.js';
import { SessionService } from '../../../coordinator/io/session_service.js';
import { sessionService } from '../../../coordinator/io/session_wire.js';
import { Store } from '../../../coordinator/io/store.js';
import { TokensService } from '../../../coordinator/io/tokens_service.js';
import { connectEtcd } from '../../../shared/etcd/client.js';
import type { Credentials } from '../../../shared/identity/credential_files.js';
import {
  channelCredentials,
  serverCredentials,
  TLS_CHANNEL_OPTIONS,
} from '../../../shared/identity/grpc_credentials.js';
import type { CredentialSource } from '../../../shared/identity/kept_credentials.js';
import { parseJobSpec } from '../../../shared/job_spec.js';
import { createLogger } from '../../../shared/logger.js';
import { BundlesClient, JobsClient, TokensClient } from '../../../shared/wire/services.js';

export const spec = parseJobSpec('{version: 1, name: x, task: "a.py:A", steps: 9, batch: 4, microbatches: 2}');

const bobsJob: JobRecord = {
  ...{ job: 'bobs', operationId: 'op', user: 'bob', bundle: '/b', output: '/o', checkpoints: '/c', resumedFrom: '' },
  ...{ spec, submittedMs: 0, state: 'queued', reason: '', traceback: '', weightsDigest: '', metrics: {}, facts: null },
  progress: { committed: 0, loss: null, samplesLost: 0, samplesRepeated: 0 },
  restores: { count: 0, committed: 0 },
  spent: NOTHING_SPENT,
};

class DeadStore extends Store {
  override async write(): Promise<never> {
    throw new Error('there is no etcd');
  }
}

export class SecuredServices {
  readonly audited: AuditEntry[] = [];
  /** Why the audit log takes nothing more. */
  objection: string | undefined;
  /** What reached the core from outside. */
  readonly events: CoordinatorEvent[] = [];
  readonly #server = new Server();
  readonly #driver: Driver;
  readonly #close: (() => void)[] = [];
  address = '';

  private constructor() {
    const log = createLogger('coordinator', 'c1', 'error');
    const client = connectEtcd({ endpoints: ['http://127.0.0.1:1'], prefix: '/x/', callTimeoutMs: 1 });
    const { events } = this;
    class NotingDriver extends Driver {
      override dispatch(...happened: readonly CoordinatorEvent[]): void {
        events.push(...happened.filter(({ kind }) => kind !== 'ticked' && kind !== 'write_failed'));
        super.dispatch(...happened);
      }
    }
    const state = initialState({ ...DEFAULT_SETTINGS, name: 'c1' });
    const store = new DeadStore({ client, log });
    this.#driver = new NotingDriver({ state, store, term: () => 1, stepDown: () => undefined, log });
    const bundleStore = new BundleStore(client);
    const inUse = () => ({ needed: new Set<string>(), remembered: [] });
    const keeper = new BundleKeeper({ store: bundleStore, inUse, term: () => 1, log });
    const objection = () => this.objection;
    const audit = {
      record: (entry: AuditEntry) => void this.audited.push(entry),
      get objection() {
        return objection();
      },
    };
    const leader = () => undefined;
    const drop = () => undefined;
    const jobs = new JobsService(this.#driver, leader, keeper, drop);
    const sessions = new SessionService(this.#driver, leader, log, audit, drop);
    const bundles = new BundlesService({ keeper, store: bundleStore, leads: () => true, leader, log });
    const tokens = new TokensService({ tokens: new JoinTokens(client), joining: () => undefined });
    this.#driver.connect(sessions, jobs);
    const guard = { secured: true, audit };
    this.#server.addService(sessionService, guarded(sessionService, sessions.implementation, guard));
    this.#server.addService(JobsClient.service, guarded(JobsClient.service, jobs.implementation, guard));
    this.#server.addService(BundlesClient.service, guarded(BundlesClient.service, bundles.implementation, guard));
    this.#server.addService(TokensClient.service, guarded(TokensClient.service, tokens.implementation, guard));
    this.#driver.dispatch({
      kind: 'elected',
      term: 1,
      jobs: [bobsJob],
      generations: [],
      checkpoints: [],
      nodes: [],
      accounts: undefined,
    });
    this.#close.push(
      () => this.#driver.close(),
      () => keeper.close(),
      () => this.#server.forceShutdown(),
      () => client.close(),
    );
  }

  static async start(source: CredentialSource): Promise<SecuredServices> {
    const services = new SecuredServices();
    const { port } = await listenForGrpc(services.#server, '127.0.0.1:0', serverCredentials(source));
    services.address = `127.0.0.1:${port}`;
    return services;
  }

  /** A client with these credentials, or without any over plain HTTP/2. */
  client(
    service: ServiceClientConstructor,
    credentials: Credentials | undefined,
  ): InstanceType<ServiceClientConstructor> {
    const channel = channelCredentials(credentials, { role: 'coordinator', name: 'c1' });
    const options = { ...TLS_CHANNEL_OPTIONS, 'grpc.enable_retries': 0, 'grpc.use_local_subchannel_pool': 1 };
    const made = new service(this.address, channel, options);
    this.#close.push(() => made.close());
    return made;
  }

  close(): void {
    for (const close of this.#close.reverse()) close();
  }
}
