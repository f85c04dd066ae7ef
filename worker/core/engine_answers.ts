/**
 * Whether an engine may say what it says now. It runs the user's code, so nothing of it is taken on trust: what is not the answer that is
 * due ends it, before anything else is made of it.
 */
import { nodeKey } from '../../shared/tree.js';
import { FIRST_PARTIAL_SLOT, slotBytes } from '../collective/data_plane.js';
import { bucketCount } from '../collective/segments.js';
import type { EngineEvent, EngineOp } from './engine_protocol.js';
import type { JobRun, Outstanding } from './state.js';

type Answer = Exclude<EngineEvent, { readonly event: 'started' | 'failed' }>;
type EventOf<K extends EngineEvent['event']> = Extract<EngineEvent, { readonly event: K }>;

/** What each event answers. */
const ANSWERS: Readonly<Record<Answer['event'], EngineOp>> = {
  loaded: 'load',
  buckets: 'compute',
  partial: 'compute',
  microbatch: 'compute',
  computed: 'compute',
  applied: 'apply',
  digest: 'digest',
  evaluated: 'evaluate',
  finished: 'finish',
  exported: 'export_model',
  state_exported: 'export_state',
  snapshot_taken: 'snapshot',
  state_imported: 'import_state',
};

/** What is wrong with the event; undefined: nothing. `memoryBytes` is what the machine has. */
export function objectionTo(run: JobRun, memoryBytes: number, event: EngineEvent): string | undefined {
  if (event.event === 'failed') return undefined;
  const [asked] = run.outstanding;
  if (event.event === 'started') return run.engineStarted === undefined ? undefined : 'it has started already';
  if (asked?.what !== ANSWERS[event.event])
    return asked === undefined ? 'nothing was asked' : `${asked.what} was asked`;
  switch (event.event) {
    case 'loaded':
      return objectionToVector(run, memoryBytes, event);
    case 'buckets':
      return ofOtherStep(asked.committed, event) ?? objectionToBuckets(run, asked, event);
    case 'partial':
      return ofOtherStep(asked.committed, event) ?? objectionToPartial(run, asked, event);
    case 'microbatch':
      if (asked.microbatches === 0) return 'all that were asked for are computed';
      return ofOtherStep(asked.committed, event);
    case 'computed':
      if (asked.partials > 0) return `${asked.partials} partials are missing`;
      return ofOtherStep(asked.committed, event);
    case 'applied':
      return ofOtherStep(asked.committed - 1, event);
    default:
      return undefined;
  }
}

function ofOtherStep(expected: number, { step }: { readonly step: number }): string | undefined {
  return step === expected ? undefined : `it is of step ${step}, not ${expected}`;
}

function objectionToVector(run: JobRun, memoryBytes: number, event: EventOf<'loaded'>): string | undefined {
  const { vector_bytes: vectorBytes, bf16_bytes: bf16Bytes } = event;
  if (bf16Bytes > vectorBytes) return `${bf16Bytes} bytes of ${vectorBytes} are bf16`;
  if (run.spec.exchange === 'fp32' && bf16Bytes > 0) return `${bf16Bytes} bytes are bf16 in an exchange of fp32`;
  const leastBytes = (FIRST_PARTIAL_SLOT + 1) * slotBytes(vectorBytes);
  if (leastBytes <= memoryBytes) return undefined;
  return `its gradients need ${leastBytes} bytes to be exchanged, and this machine has ${memoryBytes}`;
}

/** Of what is not awaited any more (`stale`, or committed by the others) nothing is kept, so it may be anything. */
function ownNode(run: JobRun, { committed, stale }: Outstanding, event: EventOf<'buckets' | 'partial'>) {
  if (stale || run.inFlight?.step !== committed) return 'not awaited';
  return run.inFlight.nodes.get(nodeKey(event));
}

function objectionToBuckets(run: JobRun, asked: Outstanding, event: EventOf<'buckets'>): string | undefined {
  const own = ownNode(run, asked, event);
  if (own === 'not awaited') return undefined;
  if (own === undefined) return `node ${nodeKey(event)} was not asked for`;
  if (own.facts !== undefined) return `node ${nodeKey(event)} is whole already`;
  if (event.buckets <= own.buckets) return `${event.buckets} buckets after ${own.buckets}`;
  const most = bucketCount(run.facts?.vectorBytes ?? 0) - 1;
  return event.buckets <= most ? undefined : `${event.buckets} buckets before the whole, of which ${most} can be`;
}

function objectionToPartial(run: JobRun, asked: Outstanding, event: EventOf<'partial'>): string | undefined {
  if (asked.partials === 0) return 'all that was asked for is there';
  const own = ownNode(run, asked, event);
  if (own === undefined) return `node ${nodeKey(event)} was not asked for`;
  if (own !== 'not awaited' && own.facts !== undefined) return `node ${nodeKey(event)} is whole already`;
  const { consumed, length } = event;
  return consumed.length === length
    ? undefined
    : `${consumed.length} digests of what was consumed for ${length} microbatches`;
}
