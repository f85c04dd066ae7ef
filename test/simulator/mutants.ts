/** Small, wrong changes of the cores. The simulator has to notice each of them. */

export interface Mutant {
  /** What is wrong with it. */
  readonly name: string;
  /** A compiled module, and the text in it, exactly once, that is replaced. */
  readonly file: string;
  readonly find: string;
  readonly replace: string;
  /** The search begins there: of one that shows once in hundreds of seeds, or in tens of thousands, it is known where it does. */
  readonly from?: number;
}

export const MUTANTS: readonly Mutant[] = [
  {
    name: 'a worker gets a job before it has measured itself',
    file: 'coordinator/core/preflights.js',
    find: "return 'its pre-flight has not come';",
    replace: 'return undefined;',
  },
  {
    name: 'a worker gets a job though it is marked',
    file: 'coordinator/core/preflights.js',
    find: "return 'it is marked for its pre-flight';",
    replace: 'return undefined;',
  },
  {
    name: 'a worker is compared with itself alone',
    file: 'coordinator/core/preflights.js',
    find: 'lag(report, others)',
    replace: 'lag(report, [])',
  },
  {
    name: 'a worker that is marked is never measured again',
    file: 'coordinator/core/preflights.js',
    find: "(marked !== '' || lacksPeers)",
    replace: 'lacksPeers',
  },
  {
    name: 'a measurement that a job has ended is never made',
    file: 'worker/core/preflight.js',
    find: 'turn.state.measuring = false;',
    replace: '',
  },
  {
    name: 'a vector that was reduced in an older generation is committed',
    file: 'worker/core/step.js',
    find: 'if (event.generation !== run.generation || event.step !== run.committed)',
    replace: 'if (event.step !== run.committed)',
    from: 1_101,
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
    find: '...slotsOf(nodes), ',
    replace: '',
  },
  {
    name: 'a bucket is announced that is not final',
    file: 'worker/core/step.js',
    find: 'const { buckets } = event;',
    replace: 'const buckets = event.buckets + 1;',
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
    find: 'step: run.committed - read }',
    replace: 'step: run.committed - read + 1 }',
  },
  {
    name: 'in one shot a partial is dropped while others may be reading it',
    file: 'worker/core/step.js',
    find: 'const read = run.readSlots.length > 0 ? 1 : 0;',
    replace: 'const read = 0;',
  },
  {
    name: 'in one shot a partial is written over while others may be reading it',
    file: 'worker/core/step.js',
    find: '...run.readSlots]',
    replace: ']',
  },
  {
    name: 'a short vector is reduced in one shot although not everybody has a partial',
    file: 'worker/collective/routes.js',
    find: 'return new Set(placements.map(({ rank }) => rank)).size === workers;',
    replace: 'return true;',
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
    from: 1_501,
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
    find: "write(turn, { kind: 'submit', requests: [request], forgets, ...submitted });",
    replace:
      "write(turn, { kind: 'submit', requests: [], forgets, ...submitted });\n    turn.commands.push({ kind: 'reply', request, job: submitted.record.job });",
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
    find: 'doubtful ?? { record, checkpoints: [] }',
    replace: '{ record, checkpoints: [] }',
    from: 2_501,
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
    from: 5_901,
  },
  {
    name: 'the workers of a job that has ended are not released',
    file: 'coordinator/core/ending.js',
    find: 'for (const worker of assignedTo(turn.state, record.job))',
    replace: 'for (const worker of [])',
  },
  {
    name: 'a write that was fenced is taken for stored',
    file: 'coordinator/core/apply.js',
    find: "turn.commands.push({ kind: 'step_down' });",
    replace: 'writeStored(turn, event.operation);',
    from: 1_401,
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
    find: 'if (message.step !== progress.committed)\n        return;',
    replace: '',
  },
  {
    name: 'a write that failed is not tried again',
    file: 'coordinator/core/writes.js',
    find: 'entry.retryMs === undefined || turn.nowMs < entry.retryMs',
    replace: 'true',
  },
  {
    name: 'a checkpoint is published before its last shard is written',
    file: 'coordinator/core/saving.js',
    find: 'if (open.length === 0) {',
    replace: 'if (open.length <= 1) {',
  },
  {
    name: 'a shard of an older save is taken for one of the new',
    file: 'coordinator/core/saving.js',
    find: 'save?.save === id ? save.shards[facts.shard] : undefined',
    replace: 'save?.shards[facts.shard]',
  },
  {
    name: 'the share of a lost writer is not taken over',
    file: 'coordinator/core/saving.js',
    find: '(shard.writer !== undefined && names.has(shard.writer))',
    replace: 'shard.writer !== undefined',
  },
  {
    name: 'snapshots are released before etcd has the checkpoint',
    file: 'coordinator/core/saving.js',
    find: 'run.checkpoints = kept;\n',
    replace: 'run.checkpoints = kept;\n    endSave(turn, run, false);\n',
  },
  {
    name: 'an old checkpoint is removed before etcd has the new one',
    file: 'coordinator/core/saving.js',
    find: 'run.saving.removing.add(one.path);',
    replace:
      "for (const holder of holdersOf(turn, run, save)) send(turn, holder, { kind: 'removeCheckpoint', job: run.record.job, path: one.path });",
  },
  {
    name: 'a job removes the checkpoints of the one that it continues',
    file: 'coordinator/core/saving.js',
    find: ' && one.job === run.record.job',
    replace: '',
  },
  {
    name: 'a snapshot is replaced while it is being written',
    file: 'worker/core/snapshot.js',
    find: 'snapshot?.orderedBy !== undefined || ',
    replace: '',
  },
  {
    name: 'a snapshot that is being written is forgotten when its worker heals',
    file: 'worker/core/generation.js',
    find: 'if (run.snapshot?.orderedBy === undefined)',
    replace: 'if (true)',
    from: 1_151,
  },
  {
    name: 'retention keeps the oldest checkpoints instead of the newest',
    file: 'coordinator/core/retention.js',
    find: 'committed >= oldestKept',
    replace: 'committed <= oldestKept',
  },
  {
    name: 'the oldest checkpoint is restored instead of the newest',
    file: 'coordinator/core/retention.js',
    find: 'return checkpoints.findLast(',
    replace: 'return checkpoints.find(',
  },
  {
    name: 'a checkpoint is restored though a peer has the state',
    file: 'coordinator/core/generation_plan.js',
    find: 'committed >= (input.checkpoint?.committed ?? 0)',
    replace: 'committed > (input.checkpoint?.committed ?? -1)',
  },
  {
    name: 'what is restored is taken for the newest step that anybody had',
    file: 'coordinator/core/generation_plan.js',
    find: 'planFrom(input, input.checkpoint.committed, ',
    replace: 'planFrom(input, trust.committed, ',
  },
  {
    name: 'a damaged checkpoint is restored again and again',
    file: 'coordinator/core/restoring.js',
    find: 'if (message.damaged) {',
    replace: 'if (false) {',
  },
  {
    name: 'a joiner interrupts a restore',
    file: 'coordinator/core/formation.js',
    find: 'if (restores !== undefined || allCommitted(',
    replace: 'if (allCommitted(',
    from: 401,
  },
  {
    name: 'a worker takes its own part of a checkpoint for all of it',
    file: 'worker/core/restore.js',
    find: 'if (missing.length === 0)',
    replace: 'if (true)',
  },
  {
    name: 'a worker that has read all of a checkpoint does not offer it to the others',
    file: 'worker/core/restore.js',
    find: "tellDataPlane(turn, run, { kind: 'publish_state'",
    replace: "if (missing.length > 0)\n        tellDataPlane(turn, run, { kind: 'publish_state'",
    from: 801,
  },
  {
    name: 'steps that are done again after a restore count as new ones',
    file: 'coordinator/core/progress.js',
    find: 'if (message.step !== progress.committed)\n        return;',
    replace:
      'if (message.step > progress.committed)\n        return;\n    message = { ...message, step: progress.committed };',
  },
  {
    name: 'a cancel that is to save the state first does not',
    file: 'coordinator/core/jobs.js',
    find: 'else if (checkpoint) {',
    replace: 'else if (false) {',
  },
  {
    name: 'a job that continues another counts from step 0',
    file: 'coordinator/core/jobs.js',
    find: 'progress: chosen.progress,',
    replace: '',
  },
  {
    name: 'a new leader is not told what was printed before',
    file: 'worker/core/session.js',
    find: 'replayPrints(turn);',
    replace: '',
  },
  {
    name: 'lines that are said again are taken again',
    file: 'coordinator/core/job_logs.js',
    find: 'if (line.number <= number)',
    replace: 'if (false)',
  },
  {
    name: 'steps are given more worker-seconds than there were',
    file: 'coordinator/core/accounting.js',
    find: 'Math.min(1, run.unclaimedSeconds / wanted)',
    replace: '1',
  },
  {
    name: 'workers that unload a job that has ended are counted for nobody',
    file: 'coordinator/core/accounting.js',
    find: "if (worker.job !== undefined || worker.leaving)\n        return 'leavingSeconds';",
    replace: 'if (worker.job !== undefined || worker.leaving)\n        return undefined;',
  },
  {
    name: 'a new leader does not know what users have had',
    file: 'coordinator/core/accounts.js',
    find: 'state.usages.set(user, { workerSeconds, atMs });',
    replace: '',
  },
  {
    name: 'an engine that computes other bits is taken when it comes back in a new session',
    file: 'coordinator/core/membership.js',
    find: 'if (worker.facts !== undefined && !isWelcome(turn, run, worker, worker.facts))',
    replace:
      'if (worker.facts !== undefined && run.record.facts === null && !isWelcome(turn, run, worker, worker.facts))',
    from: 701,
  },
  {
    name: 'a job that is stuck keeps its workers for ever',
    file: 'coordinator/core/schedule.js',
    find: 'nowMs - formation.sinceMs >= state.settings.shortMs',
    replace: 'false',
    from: 7_401,
  },
];
