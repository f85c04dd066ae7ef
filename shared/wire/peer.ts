/** Our types for the protobuf part of proto/peer.proto. The raw frames are in worker/collective/frame.ts. */
import { bool, choice, type Infer, message, text, uint32, uint53 } from './codec.js';

export const pullRequest = message({
  request: uint32,
  kind: choice({
    partial: 'PARTIAL',
    reduced: 'REDUCED',
    facts: 'FACTS',
    state: 'STATE',
    stateFacts: 'STATE_FACTS',
    sum: 'SUM',
    probe: 'PROBE',
  }),
  job: text(128),
  term: uint53,
  generation: uint53,
  step: uint53,
  nodeLo: uint32,
  nodeLength: uint32,
  bucket: uint32,
  segment: uint32,
  segments: uint32,
  offset: uint53,
  length: uint53,
  worker: text(128),
  incarnation: text(128),
  sameHost: bool,
});
export type PullRequest = Infer<typeof pullRequest>;
