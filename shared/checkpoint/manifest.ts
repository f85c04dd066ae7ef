/** manifest.json: what a checkpoint consists of. docs/checkpoints.md describes the format for those who read it with other tools. */

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
  readonly loss: number | null;
  readonly samplesLost: number;
  readonly samplesRepeated: number;
  readonly createdMs: number;
}
