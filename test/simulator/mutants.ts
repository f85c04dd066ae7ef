/** Small, wrong changes of the cores. The simulator has to notice each of them. */

export interface Mutant {
  /** What is wrong with it. */
  readonly name: string;
  /** A compiled module, and the text in it, exactly once, that is replaced. */
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

export const MUTANTS: readonly Mutant[] = [
  {
    name: 'a vector that was reduced in an older generation is committed',
    file: 'worker/core/step.js',
    find: 'if (event.generation !== run.generation || event.step !== run.committed)',
    replace: 'if (event.step !== run.committed)',
  },
  {
    name: 'the step in flight is dropped instead of finished',
    file: 'worker/core/generation.js',
    find: '? [...run.inFlight.nodes.values()].map((own) => own.node)',
    replace: '? []',
  },
  {
    name: 'a prepare is answered with nodes that are not held',
    file: 'worker/core/generation.js',
    find: '? [...run.inFlight.nodes.values()].map((own) => own.node)',
    replace: '? [{ lo: 0, length: run.spec.microbatches }]',
  },
  {
    name: 'the slot of a reduced vector is written before the engine has read it',
    file: 'worker/core/step.js',
    find: 'if (run.applying.some(({ step }) => step % 2 === writer.step % 2))',
    replace: 'if (false)',
  },
  {
    name: 'the slot of a partial is used twice',
    file: 'worker/core/step.js',
    find: 'const taken = new Set([...nodes.values()].map((own) => own.slot));',
    replace: 'const taken = new Set();',
  },
  {
    name: 'a worker that heals computes before it has the state',
    file: 'worker/core/turn.js',
    find: "if (run.healing?.stage === 'fetching')",
    replace: 'if (false)',
  },
  {
    name: 'healing is skipped where the step is right',
    file: 'worker/core/generation.js',
    find: 'if (me.heals)\n        heal(',
    replace: 'if (me.heals && run.committed !== message.committed)\n        heal(',
  },
  {
    name: 'a worker that is one step behind goes on without catching up',
    file: 'worker/core/generation.js',
    find: 'catchUp(turn, run, message);\n    else',
    replace: 'runStep(turn, run, message.inFlight);\n    else',
  },
  {
    name: 'partials are dropped one step too early',
    file: 'worker/core/step.js',
    find: "{ kind: 'drop_partials', job: run.job, step: run.committed }",
    replace: "{ kind: 'drop_partials', job: run.job, step: run.committed + 1 }",
  },
  {
    name: 'a digest is reported for the step that is newest when it comes',
    file: 'worker/core/finish.js',
    find: "kind: 'digestReported',\n        job: run.job,\n        committed,",
    replace: "kind: 'digestReported',\n        job: run.job,\n        committed: run.committed,",
  },
  {
    name: 'reports that were lost with a session are not sent again',
    file: 'worker/core/generation.js',
    find: 'if (report.step >= from)',
    replace: 'if (false)',
  },
  {
    name: 'a worker is not heard between its hello and the welcome',
    file: 'worker/core/turn.js',
    find: "if (turn.state.session !== 'down')",
    replace: "if (turn.state.session === 'up')",
  },
  {
    name: 'a microbatch that is left over is handed out twice',
    file: 'coordinator/core/generation_plan.js',
    find: 'missing.slice(share.lo, share.lo + share.length)',
    replace: 'missing.slice(share.lo, share.lo + share.length + 1)',
  },
  {
    name: 'a generation starts before it is in etcd',
    file: 'coordinator/core/formation.js',
    find: "write(turn, { kind: 'generation', job: run.record.job, record: plan.record });",
    replace:
      "write(turn, { kind: 'generation', job: run.record.job, record: plan.record });\n    startRecorded(turn, run, plan.record.generation);",
  },
  {
    name: 'the number of a generation that failed to form is used again',
    file: 'coordinator/core/formation.js',
    find: 'run.generation += 1;',
    replace: 'run.generation = (run.lastRecord?.generation ?? 0) + 1;',
  },
  {
    name: 'a generation begins at the step of the last worker instead of the first',
    file: 'coordinator/core/generation_plan.js',
    find: 'Math.max(0, ...counting',
    replace: 'Math.min(...counting',
  },
  {
    name: 'whoever returns to a loose job keeps the state that it has',
    file: 'coordinator/core/generation_plan.js',
    find: 'if (input.strict)',
    replace: 'if (true)',
  },
  {
    name: 'partials of a worker that is one step behind are taken for those of this step',
    file: 'coordinator/core/generation_plan.js',
    find: "if (standing !== 'current')",
    replace: "if (standing === 'heals')",
  },
  {
    name: 'a joiner gets the block of the worker before it',
    file: 'coordinator/core/generation_plan.js',
    find: 'lo: blocks[rank]?.lo ?? 0,',
    replace: "lo: blocks[standing === 'heals' ? rank - 1 : rank]?.lo ?? 0,",
  },
  {
    name: 'a job is acknowledged before it is stored',
    file: 'coordinator/core/jobs.js',
    find: "write(turn, { kind: 'submit', requests: [request], record });",
    replace:
      "write(turn, { kind: 'submit', requests: [], record });\n    turn.commands.push({ kind: 'reply', request, job: record.job });",
  },
  {
    name: 'a submit that is repeated becomes another job',
    file: 'coordinator/core/jobs.js',
    find: 'if (beingStored !== undefined) {',
    replace: 'if (false) {',
  },
  {
    name: 'a submit that may have been stored is stored again under another id',
    file: 'coordinator/core/jobs.js',
    find: 'const record = doubtful ?? {',
    replace: 'const record = {',
  },
  {
    name: 'a cancel is acknowledged before it is stored',
    file: 'coordinator/core/jobs.js',
    find: 'run.cancelRequests.push(request);',
    replace: "turn.commands.push({ kind: 'reply', request, job });",
  },
  {
    name: 'a job ends twice',
    file: 'coordinator/core/ending.js',
    find: 'if (run.ending || isTerminal(run.record.state))',
    replace: 'if (isTerminal(run.record.state))',
  },
  {
    name: 'the end of a job is told twice',
    file: 'coordinator/core/ending.js',
    find: 'run.record = record;\n    emitEnd(turn, run);',
    replace: 'run.record = record;\n    emitEnd(turn, run);\n    emitEnd(turn, run);',
  },
  {
    name: 'something is written of a job behind its end',
    file: 'coordinator/core/turn.js',
    find: '?.ending === true',
    replace: '?.ending === null',
  },
  {
    name: 'the workers of a job that has ended are not released',
    file: 'coordinator/core/ending.js',
    find: 'for (const worker of assignedTo(turn, record.job))',
    replace: 'for (const worker of [])',
  },
  {
    name: 'a write that was fenced is taken for stored',
    file: 'coordinator/core/apply.js',
    find: "turn.commands.push({ kind: 'step_down' });",
    replace: 'writeStored(turn, event.operation);',
  },
  {
    name: 'reports are acknowledged before they are stored',
    file: 'coordinator/core/progress.js',
    find: "write(turn, { kind: 'progress', job: run.record.job, committed: run.record.progress.committed });",
    replace: 'progressStored(turn, run, run.record.progress.committed);',
  },
  {
    name: 'a step is counted whichever is reported',
    file: 'coordinator/core/progress.js',
    find: 'message.step !== progress.committed || ',
    replace: '',
  },
  {
    name: 'a write that failed is not tried again',
    file: 'coordinator/core/writes.js',
    find: 'entry.retryMs === undefined || turn.nowMs < entry.retryMs',
    replace: 'true',
  },
];
