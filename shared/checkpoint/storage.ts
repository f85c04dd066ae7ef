/** Where checkpoints lie. Two kinds: a folder (directory.ts) and a bucket of an S3-compatible store (s3.ts). */
import type { VerifiedCheckpoint } from './verify.js';

/** A save under way. Nothing of it can be seen as a checkpoint. */
export interface Draft {
  /** Steps that the state has committed. */
  readonly step: number;
  /** Unique id of the attempt. */
  readonly save: string;
}

/** A file of a draft. Nobody sees it before it is finished. */
export interface FileWriter {
  /** Appends, also when what came before is still being written. The buffer is the caller's again when this resolves. */
  write(piece: Buffer): Promise<void>;
  /** The file is durable under its name when this resolves. `sha256` is that of all that was written. */
  finish(sha256: string): Promise<void>;
  /** Removes what is there of it. After a failure, also one of `finish`; a file is never tried again. Never rejects. */
  abandon(): Promise<void>;
}

export interface FileReader {
  /** Path or URL, for messages. */
  readonly path: string;
  readonly bytes: number;
  /** Fills the buffer. Rejects with DamagedCheckpoint when the file ends before that. */
  read(target: Buffer, at: number): Promise<void>;
  /** Never rejects. */
  close(): Promise<void>;
}

export interface NewManifest {
  readonly text: Buffer<ArrayBuffer>;
  readonly sha256: string;
  readonly stateSha256: string;
  /** Of the save; see mustNotBeOlder. */
  readonly createdMs: number;
  /** The draft's files. */
  readonly files: readonly { readonly file: string; readonly bytes: number }[];
}

/** Operations reject with StorageFailure, and with DamagedCheckpoint where something is read. */
export interface Storage {
  /** Path or URL of a checkpoint; `name` is the last part of it. */
  pathOf(name: string): string;
  /** Names of the published checkpoints, in any order. They may be damaged. */
  list(): Promise<readonly string[]>;
  /** What the file of a shard is called. */
  shardFile(draft: Draft, shard: number, shards: number): string;
  createShard(draft: Draft, file: string, bytes: number): Promise<FileWriter>;
  /**
   * Makes the draft, whose shards are all there, the checkpoint of its step, and verifies it with `verify`. A checkpoint that is there
   * already and has the same state is taken instead; any other of that step is replaced. Returns what is there now.
   */
  publish(draft: Draft, manifest: NewManifest, verify: () => Promise<VerifiedCheckpoint>): Promise<VerifiedCheckpoint>;
  /** A finished file of a draft; undefined when it is not there (any more). */
  openDraftFile(draft: Draft, file: string): Promise<FileReader | undefined>;
  /** Removes what is left of a draft that is not published. */
  discard(draft: Draft): Promise<void>;
  openFile(name: string, file: string): Promise<FileReader>;
  /** Removes a checkpoint, in an order that never leaves half of one that looks whole. One that is not there is no error. */
  remove(name: string): Promise<void>;
  /** Removes what other saves left behind more than an hour ago. Never rejects. */
  tidy(draft: Draft): Promise<void>;
}
