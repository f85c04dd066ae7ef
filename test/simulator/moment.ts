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
] as const;
export type Moment = (typeof MOMENTS)[number];
