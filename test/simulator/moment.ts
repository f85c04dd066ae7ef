/** Moments at which a fault is worth more than at a random time. */
export const MOMENTS = [
  'step_committed',
  'reduced_whole',
  'prepared',
  'generation_stored',
  'started',
  'healing',
  'healed',
  'state_published',
  'session_opened',
  'elected',
  'submit_stored',
  'end_stored',
  'finishing',
  'model_described',
  'reported',
  'loaded',
  'snapshot_taken',
  'shard_written',
  'published',
  'checkpoint_stored',
  'restore_begun',
  'part_restored',
  'state_corrupt',
] as const;
/** An engine that loads is struck only where a seed is about that: what is drawn of the list above would be another for every seed. */
export type Moment = (typeof MOMENTS)[number] | 'loading';
