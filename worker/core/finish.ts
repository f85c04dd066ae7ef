/** After the last step: evaluate, let the task have its last word, write the model, describe it. */
import type { WorkerMessage } from '../../shared/wire/session.js';
import { failRun } from './engine_life.js';
import type { JobRun } from './state.js';
import { send, type Turn, tellEngine, totalSteps } from './turn.js';

export function finish(turn: Turn, run: JobRun): void {
  if (run.facts === undefined || run.finishing !== undefined || run.committed < totalSteps(run, run.facts)) return;
  run.finishing = { metrics: {}, file: undefined };
  tellEngine(turn, run, { command: 'evaluate' });
  tellEngine(turn, run, { command: 'finish' });
  tellEngine(turn, run, { command: 'export_model', path: run.output });
  tellEngine(turn, run, { command: 'digest' });
}

export function evaluated(turn: Turn, run: JobRun, committed: number, metrics: Readonly<Record<string, number>>): void {
  if (run.finishing !== undefined) run.finishing.metrics = metrics;
  send(turn, {
    kind: 'evaluated',
    job: run.job,
    committed,
    metrics: new Map(Object.entries(metrics)),
  });
}

export function exported(run: JobRun, file: { readonly bytes: number; readonly sha256: string }): void {
  if (run.finishing !== undefined) run.finishing.file = { bytes: file.bytes, sha256: file.sha256 };
}

export function digestComputed(turn: Turn, run: JobRun, committed: number, weights: string, state: string): void {
  const report: Extract<WorkerMessage, { kind: 'digestReported' }> = {
    kind: 'digestReported',
    job: run.job,
    committed,
    weights,
    state,
  };
  run.lastDigest = report;
  send(turn, report);
  if (run.finishing?.file !== undefined) describe(turn, run, run.finishing.file, weights);
}

function describe(
  turn: Turn,
  run: JobRun,
  file: { readonly bytes: number; readonly sha256: string },
  weightsDigest: string,
): void {
  const { facts, finishing } = run;
  if (facts === undefined || finishing === undefined) return;
  turn.commands.push({
    kind: 'describe_model',
    path: run.output,
    model: {
      job: run.job,
      spec: run.spec,
      steps: run.committed,
      loss: run.lastLoss,
      weightsDigest,
      datasetDigest: facts.datasetDigest,
      datasetLength: facts.datasetLength,
      parameters: facts.parameters,
      metrics: finishing.metrics,
      torch: facts.torch,
      file,
    },
  });
}

export function modelDescribed(turn: Turn, run: JobRun, path: string): void {
  const { finishing, lastDigest } = run;
  if (finishing === undefined || lastDigest === undefined) return;
  run.finishing = undefined;
  send(turn, {
    kind: 'finished',
    job: run.job,
    weights: lastDigest.weights,
    metrics: new Map(Object.entries(finishing.metrics)),
    path,
  });
}

export function modelFailed(turn: Turn, run: JobRun, reason: string): void {
  failRun(turn, run, { phase: 'export_model', failure: 'resource', message: reason, traceback: '' });
}
