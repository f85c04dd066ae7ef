/** What goes on beside the deliveries against a cluster with certificates: strangers who knock, handshakes that never end, and members who overstep. */

import { join } from 'node:path';
import { CliError, type ExitCode, exitCodes } from '../../cli/exit_codes.js';
import type { JobsClient } from '../../cli/jobs_client.js';
import { credentialFilesOf } from '../../shared/identity/credential_files.js';
import { encodeFrame, encodeSettings, flag, frameType, PREFACE } from '../../worker/collective/http2/frames.js';
import { encodeHeaderBlock } from '../../worker/collective/http2/header_block.js';
import type { FaultCluster } from '../faults/fault_cluster.js';
import type { Attackers } from './attackers.js';
import type { Address } from './deliver.js';
import { callHeaders } from './http2_bytes.js';
import { fallSilent, knock, updateKeys } from './strangers.js';
import { type Ports, peerAnswer } from './vital_signs.js';

/** Handshakes that are silent at the same time, on each port. */
const SILENT = 12;

/** As gRPC numbers it. */
const NOT_ALLOWED = '7 ';

/** A call that would be answered if it came from a member. */
function question(path: string): Buffer {
  return Buffer.concat([
    PREFACE,
    encodeSettings(new Map()),
    encodeFrame(frameType.headers, flag.endHeaders, 1, encodeHeaderBlock(callHeaders(path))),
    encodeFrame(frameType.data, flag.endStream, 1, Buffer.alloc(5)),
  ]);
}

export class Siege {
  readonly #members: readonly JobsClient[];
  readonly #mutual: readonly Address[];
  #silent: Promise<unknown>[] = [];
  #failure: unknown;
  #over = false;
  /** Refusals that were as they should be. */
  refused = 0;

  constructor(
    private readonly cluster: FaultCluster,
    private readonly ports: Ports,
    private readonly attackers: Attackers,
    private readonly hello: Buffer,
  ) {
    this.#members = [attackers.viewer, attackers.worker].map((credentials) => cluster.clientOf(credentials));
    this.#mutual = [ports.coordinator, ...ports.peers];
    const secured = ports.join === undefined ? this.#mutual : [...this.#mutual, ports.join];
    this.#silent = secured.flatMap((port) => Array.from({ length: SILENT }, (_, index) => this.#beSilent(port, index)));
  }

  /** Nothing, some or all of a hello, and then nothing more; again and again. */
  async #beSilent(port: Address, index: number): Promise<void> {
    const bytes = this.hello.subarray(0, Math.floor((this.hello.length * (index % 4)) / 3));
    while (!this.#over && this.#failure === undefined) {
      await fallSilent(port, bytes).catch((error: unknown) => {
        this.#failure = error;
      });
      this.refused += 1;
    }
  }

  /** One of each kind. Throws if anybody is answered who should not be. */
  async round(number: number): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    const port = this.#mutual[number % this.#mutual.length] ?? this.ports.coordinator;
    const path = port === this.ports.coordinator ? '/lockstep.jobs.Jobs/Nodes' : '/lockstep.peer.Peer/Pull';
    const keys = credentialFilesOf(join(this.cluster.tlsFolder, 'attacker-viewer-looker'));
    await Promise.all([
      ...this.attackers.strangers.map((stranger) => knock(port, stranger, question(path))),
      updateKeys(port, keys),
      ...this.#members.map((client) => this.#mayNot(client)),
      this.#isNoWorker(this.ports.peers[number % this.ports.peers.length]),
    ]);
    this.refused += this.attackers.strangers.length + this.#members.length + 1;
  }

  async #mayNot(client: JobsClient): Promise<void> {
    try {
      await client.cordon('w1', 'mischief');
    } catch (error) {
      // Whoever is not heard in time is not let in; whether those are heard who should be is seen to elsewhere.
      const keptOut: readonly ExitCode[] = [exitCodes.notAllowed, exitCodes.unreachable, exitCodes.timedOut];
      if (error instanceof CliError && keptOut.includes(error.exitCode)) return;
      throw error;
    }
    throw new Error('somebody who is no admin has cordoned a worker');
  }

  async #isNoWorker(peer: Address | undefined): Promise<void> {
    if (peer === undefined) return;
    // Without any answer, because the connection was closed, nothing was given away either.
    const answer = await peerAnswer(peer, this.attackers.viewer).catch(() => NOT_ALLOWED);
    if (!answer.startsWith(NOT_ALLOWED)) throw new Error(`a worker answers a viewer: ${answer}`);
  }

  /** Without a look at what has become of it: the cluster is about to be stopped. */
  giveUp(): void {
    this.#over = true;
  }

  async end(): Promise<void> {
    this.#over = true;
    for (const client of this.#members) client.close();
    await Promise.all(this.#silent);
    if (this.#failure !== undefined) throw this.#failure;
  }
}
