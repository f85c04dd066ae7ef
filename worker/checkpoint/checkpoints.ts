/**
 * What the daemon's main thread can ask of its checkpoint thread, and what it hears back. Everything slow about a checkpoint (hashing,
 * writing, reading, verifying) happens in that thread (thread.ts); nothing here waits for it.
 *
 * A save: every worker holds the same image of the training state in its snapshot memory (one safetensors image, see
 * engine/lockstep/state.py). Each writes the shards that it is told to, one of them then publishes, and only then the coordinator
 * records the checkpoint in etcd.
 *
 * A restore: each worker reads and verifies its part of the shards into its state memory; the rest it pulls from its peers.
 */
import type { CheckpointDescription, ShardFacts } from '../../shared/checkpoint/manifest.js';

/** A run of bytes of a state's image. */
export interface ByteRange {
  readonly at: number;
  readonly length: number;
}

/** Names one attempt to save. A later attempt for the same step has another `save`. */
export interface SaveName {
  readonly job: string;
  /** Unique id of the attempt, made by the coordinator: letters, digits and '-'. */
  readonly save: string;
  /** Steps that the state has committed. */
  readonly committed: number;
  /** Where the job's checkpoints lie: an absolute path, or s3://bucket/prefix. */
  readonly folder: string;
}

export type CheckpointCommand =
  /**
   * Write shard number `shard` of `shards` of the image in `fd`, `bytes` long. The descriptor is the thread's from here on: it reads the
   * image from offset 0 and closes the descriptor before it answers, whatever the outcome. A frozen writer may wake when another has written
   * the same shard, so it is written under a name of its own (O_EXCL) and renamed when it is whole. Answer: shard_written or save_failed.
   */
  | (SaveName & {
      readonly kind: 'write_shard';
      readonly shard: number;
      readonly shards: number;
      readonly fd: number;
      readonly bytes: number;
    })
  /**
   * All shards are written, by whomever: read them back and verify them, write the manifest, make the checkpoint visible under
   * its final name. Done again, also by another worker, or beside one that does the same, it has the same outcome. `fd` as above (for the header
   * and the sha256 of the image). The checkpoint may be another save's that was there already, with the same state. Answer: published or
   * save_failed.
   */
  | (SaveName & {
      readonly kind: 'publish';
      readonly shards: readonly ShardFacts[];
      readonly description: CheckpointDescription;
      readonly fd: number;
      readonly bytes: number;
    })
  /**
   * Stop whatever is under way for the save, and remove what it has left if it is not published. No answer. A checkpoint that is visible
   * already is verified to the end all the same, and answered with published or save_failed.
   */
  | (SaveName & { readonly kind: 'abandon_save' })
  /** Remove a published checkpoint, in an order that never leaves half of one that looks whole. Answer: removed (also if it is not there). */
  | { readonly kind: 'remove'; readonly job: string; readonly path: string }
  /**
   * Read part number `part` of `parts` of a checkpoint (the shards whose number is `part` modulo `parts`), and the image's header, into `fd`, each at its place in the
   * image, and verify what was read. `fd` is the thread's from here on; the file grows if need be, and never shrinks. A newer restore or stop_restore of the
   * job ends it without an answer; a piece of a few MiB that is just being written may still land.
   * Answer: part_restored or restore_failed; on the way restore_progressed.
   */
  | {
      readonly kind: 'restore';
      readonly job: string;
      readonly generation: number;
      readonly path: string;
      /** sha256 of manifest.json. */
      readonly manifestSha256: string;
      readonly part: number;
      readonly parts: number;
      readonly fd: number;
    }
  | { readonly kind: 'stop_restore'; readonly job: string };

export type CheckpointEvent =
  | {
      readonly kind: 'shard_written';
      readonly job: string;
      readonly save: string;
      readonly facts: ShardFacts;
    }
  | {
      readonly kind: 'published';
      readonly job: string;
      readonly save: string;
      /** Where it lies now: an absolute path, or an s3 URL. */
      readonly path: string;
      readonly manifestSha256: string;
      /** sha256 of the whole image: what the engine's state digest is for the same state. */
      readonly stateSha256: string;
      /** All files together. */
      readonly bytes: number;
    }
  /** One line: what could not be done, to which file, and why. Training goes on. */
  | { readonly kind: 'save_failed'; readonly job: string; readonly save: string; readonly reason: string }
  | { readonly kind: 'removed'; readonly job: string; readonly path: string; readonly error: string | undefined }
  | {
      readonly kind: 'part_restored';
      readonly job: string;
      readonly generation: number;
      /** Of the whole image. */
      readonly bytes: number;
      readonly sha256: string;
      /** What is in the file now: the header and the own part. Sorted, without overlap. */
      readonly own: readonly ByteRange[];
      /** What has to be pulled, one range for each shard that is another's. */
      readonly missing: readonly ByteRange[];
    }
  | {
      readonly kind: 'restore_failed';
      readonly job: string;
      readonly generation: number;
      readonly path: string;
      /** One line that names the file and what is wrong with it. */
      readonly reason: string;
      /**
       * The checkpoint is not whole: it will never be restored, and an older one is used. False when the storage cannot be reached
       * or read (the folder of checkpoints is gone, an I/O error, a time-out): then it is tried again.
       */
      readonly damaged: boolean;
    }
  /** At least once a second while a restore reads. */
  | { readonly kind: 'restore_progressed'; readonly job: string; readonly generation: number; readonly bytes: number };

export interface Checkpoints {
  tell(command: CheckpointCommand): void;
  /** Ends the thread; waits a bounded time. */
  close(): Promise<void>;
}
