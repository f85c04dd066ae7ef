/** manifest.json: what a checkpoint consists of. docs/checkpoints.md describes the format for those who read it with other tools. */
import type { ImageHeader } from './image_header.js';

/** One file of a checkpoint: a safetensors file with some of the image's tensors. */
export interface ShardFacts {
  readonly shard: number;
  /** File name, without folder. */
  readonly file: string;
  readonly bytes: number;
  readonly sha256: string;
}

/** What the coordinator says of the state that is saved. */
export interface CheckpointDescription {
  readonly job: string;
  readonly name: string;
  /** Steps committed. The data position follows from it. */
  readonly committed: number;
  readonly epoch: number;
  /** Steps of the epoch that are done. */
  readonly stepOfEpoch: number;
  /** The job's spec in the words of job.yaml, as JSON. */
  readonly specJson: string;
  readonly datasetDigest: string;
  readonly datasetLength: number;
  readonly torch: string;
  readonly fingerprint: string;
  readonly loss?: number | undefined;
  readonly samplesLost: number;
  readonly samplesRepeated: number;
  readonly createdMs: number;
}

/** A shard, and the run of the image's bytes that its tensors are. */
export interface ManifestShard extends ShardFacts {
  readonly at: number;
  readonly length: number;
}

export interface Manifest {
  readonly description: CheckpointDescription;
  /** sha256 of the spec as canonical JSON. */
  readonly specDigest: string;
  /** The image. */
  readonly header: ImageHeader;
  readonly stateSha256: string;
  /** In the order of the image. */
  readonly shards: readonly ManifestShard[];
}
