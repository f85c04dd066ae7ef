/** The engine protocol of docs/engine_protocol.md, as our types. The ids of commands are added where they are written. */

export interface ComputeRun {
  readonly lo: number;
  readonly length: number;
  /** Byte offset of the partial in the exchange memory. */
  readonly at: number;
  readonly samples: readonly (readonly number[])[];
}

/** A microbatch that will probably be computed next. The engine may read it while it waits. */
export interface Ahead {
  readonly step: number;
  readonly microbatch: number;
  readonly samples: readonly number[];
}

export type EngineCommand =
  | {
      readonly command: 'load';
      readonly bundle: string;
      readonly task: string;
      readonly seed: number;
      readonly microbatches: number;
      readonly precision: 'fp32' | 'bf16';
      readonly exchange: 'fp32' | 'bf16';
      readonly clip_grad_norm: number | null;
      readonly on_nonfinite: 'fail' | 'skip';
      readonly deterministic: boolean;
      readonly params: unknown;
      readonly init_from: string | null;
    }
  | {
      readonly command: 'compute';
      readonly step: number;
      readonly runs: readonly ComputeRun[];
      readonly ahead: Ahead | null;
    }
  | {
      readonly command: 'apply';
      readonly step: number;
      readonly at: number;
      readonly weight: number;
      readonly filled: number;
    }
  | { readonly command: 'digest' }
  | { readonly command: 'evaluate' }
  | { readonly command: 'finish' }
  | { readonly command: 'export_model'; readonly path: string }
  | { readonly command: 'export_state' }
  | { readonly command: 'snapshot' }
  | { readonly command: 'import_state'; readonly bytes: number }
  | { readonly command: 'stop' };

export type EngineOp = EngineCommand['command'];

export type EngineEvent =
  | {
      readonly event: 'started';
      readonly pid: number;
      readonly torch: string;
      readonly python: string;
      readonly device: string;
      readonly fingerprint: string;
    }
  | {
      readonly event: 'loaded';
      readonly vector_bytes: number;
      readonly bf16_bytes: number;
      readonly parameters: number;
      readonly dataset_length: number;
      readonly dataset_digest: string;
    }
  | {
      readonly event: 'partial';
      readonly step: number;
      readonly lo: number;
      readonly length: number;
      readonly loss: number;
      readonly weight: number;
      readonly consumed: readonly string[];
      readonly data_ms: number;
      readonly compute_ms: number;
    }
  /** The first `buckets` buckets of a partial are final in its slot; the partial itself follows. */
  | {
      readonly event: 'buckets';
      readonly step: number;
      readonly lo: number;
      readonly length: number;
      readonly buckets: number;
    }
  /** One of the microbatches is computed: a sign of life, not said of each. */
  | { readonly event: 'microbatch'; readonly step: number }
  | { readonly event: 'computed'; readonly step: number }
  | {
      readonly event: 'applied';
      readonly step: number;
      readonly grad_norm: number | null;
      readonly lr: number | null;
      readonly skipped: boolean;
      readonly apply_ms: number;
      /** Bytes of the GPU's memory; null on the processor. */
      readonly device_memory: { readonly used: number; readonly total: number } | null;
    }
  | { readonly event: 'digest'; readonly weights: string; readonly state: string }
  | { readonly event: 'evaluated'; readonly metrics: Readonly<Record<string, number>> }
  | { readonly event: 'finished' }
  | { readonly event: 'exported'; readonly bytes: number; readonly sha256: string }
  | { readonly event: 'state_exported'; readonly bytes: number; readonly sha256: string }
  | { readonly event: 'snapshot_taken'; readonly bytes: number; readonly copy_ms: number }
  | { readonly event: 'state_imported'; readonly state: string }
  | {
      readonly event: 'failed';
      readonly phase: string;
      readonly kind: 'user' | 'resource' | 'engine';
      readonly message: string;
      readonly traceback: string;
    };

/** After these the engine goes on with the command that it is at, or with none. */
export const ENDS_NOTHING: ReadonlySet<EngineEvent['event']> = new Set(['started', 'buckets', 'partial', 'microbatch']);
