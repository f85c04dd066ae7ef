/** Users: they submit jobs and cancel them, and try again until somebody has said yes. */
import { isTerminal } from '../../coordinator/core/state.js';
import type { JobState } from '../../shared/wire/jobs.js';
import type { CoordinatorHost, Reply } from './coordinator_host.js';
import type { JobPlan } from './scenario.js';
import { Violation, type World } from './world.js';

const DEADLINE_MS = 3_000;

export class User {
  /** Id of the job, once its submit has been acknowledged. */
  job: string | undefined;
  /** Id of the job that goes on from its checkpoint. */
  resumed: string | undefined;
  #cancelled = false;
  #resumeOver = false;
  readonly #operationId: string;

  constructor(
    private readonly world: World,
    readonly plan: JobPlan,
  ) {
    this.#operationId = `op-${plan.spec.name}`;
    world.agenda.after(plan.submitAtMs, () => this.#submit());
    if (plan.cancel !== undefined) world.agenda.after(plan.cancel.atMs, () => this.#cancel());
    if (plan.isResumed) this.#resumeWhenEnded();
  }

  get hasAllItWanted(): boolean {
    if (!this.#hasEnded(this.job) || (this.plan.cancel !== undefined && !this.#cancelled)) return false;
    if (!this.plan.isResumed || this.#stateOf(this.job) === 'finished' || this.#resumeOver) return true;
    return this.#hasEnded(this.resumed);
  }

  #stateOf(job: string | undefined): JobState | undefined {
    return this.world.etcd.jobs.get(job ?? '')?.state;
  }

  #hasEnded(job: string | undefined): boolean {
    const state = this.#stateOf(job);
    return state !== undefined && isTerminal(state);
  }

  #submit(): void {
    if (this.job !== undefined) return;
    const { random } = this.world;
    const request = {
      operationId: this.#operationId,
      spec: this.plan.spec,
      bundle: '/bundle',
      output: `/out/${this.plan.spec.name}`,
      checkpoints: '/checkpoints',
      user: this.plan.user,
    };
    const copies = random.chance(0.15) ? 2 : 1;
    for (let copy = 0; copy < copies; copy++) {
      this.#call(
        (coordinator, reply) =>
          coordinator.submit(request, (answer) => {
            if (answer.kind === 'done') this.#checkSubmitted(answer.job);
            reply(answer);
          }),
        (answer) => {
          if (answer.kind === 'refused') {
            if (copy === 0) this.world.agenda.after(random.between(100, 600), () => this.#submit());
          } else if (this.job !== undefined && this.job !== answer.job) {
            throw new Violation('I9', `user: one submit became the jobs ${this.job} and ${answer.job}`);
          } else this.job = answer.job;
        },
      );
    }
  }

  #checkSubmitted(job: string): void {
    if (!this.world.etcd.jobs.has(job)) throw new Violation('I9', `user: job ${job} is acknowledged and not in etcd`);
  }

  #cancel(): void {
    const { job, world } = this;
    const checkpoint = this.plan.cancel?.checkpoint === true;
    const again = () => world.agenda.after(world.random.between(100, 600), () => this.#cancel());
    if (job === undefined) {
      again();
      return;
    }
    if (this.#cancelled) return;
    world.oracle.cancelRequested(job);
    this.#call(
      (coordinator, reply) =>
        coordinator.cancel(job, checkpoint, (answer) => {
          const state = this.#stateOf(job);
          if (answer.kind === 'done' && !this.#hasEnded(job)) {
            throw new Violation('I9', `user: the cancel of ${job} is acknowledged and etcd has it ${state}`);
          }
          if (answer.kind === 'done' && checkpoint) world.oracle.checkpoints.cancelAcknowledged(job);
          reply(answer);
        }),
      (answer) => {
        if (answer.kind === 'refused') again();
        else this.#cancelled = true;
      },
    );
  }

  #resumeWhenEnded(): void {
    const { agenda, random } = this.world;
    const { job } = this;
    if (job === undefined || !this.#hasEnded(job)) agenda.after(200, () => this.#resumeWhenEnded());
    else if (this.#stateOf(job) !== 'finished') {
      const checkpoints = this.world.etcd.checkpoints.get(job)?.checkpoints ?? [];
      const from = random.chance(0.2) && checkpoints.length > 0 ? random.pick(checkpoints).committed : undefined;
      this.#resume(job, from);
    }
  }

  /** One that asked for a checkpoint which is not there, or not any more, takes the newest. */
  #resume(job: string, from: number | undefined): void {
    if (this.resumed !== undefined) return;
    const { agenda, oracle, random } = this.world;
    const operationId = `${this.#operationId}-resume-${from ?? 'newest'}`;
    oracle.checkpoints.resumeWanted(operationId, from);
    this.#call(
      (coordinator, reply) =>
        coordinator.resume({ operationId, job, from }, (answer) => {
          if (answer.kind === 'done') this.#checkSubmitted(answer.job);
          reply(answer);
        }),
      (answer) => {
        if (answer.kind === 'done') this.resumed = answer.job;
        else if (answer.code !== 'not_found') agenda.after(random.between(100, 600), () => this.#resume(job, from));
        else if (from !== undefined) this.#resume(job, undefined);
        else {
          oracle.checkpoints.resumeRefused(job);
          this.#resumeOver = true;
        }
      },
    );
  }

  /** Calls whoever leads, as far as is known, or anybody. */
  #call(
    act: (coordinator: CoordinatorHost, reply: (reply: Reply) => void) => void,
    answered: (reply: Reply) => void,
  ): void {
    const { agenda, etcd, network, random, coordinators } = this.world;
    const name =
      etcd.leader !== undefined && random.chance(0.8) ? etcd.leader.name : random.pick([...coordinators.keys()]);
    let over = false;
    const finish = (reply: Reply) => {
      if (over) return;
      over = true;
      answered(reply);
    };
    agenda.after(DEADLINE_MS, () => finish({ kind: 'refused', code: 'deadline' }));
    agenda.after(network.delayMs('user', name), () => {
      const coordinator = coordinators.get(name);
      if (coordinator === undefined || !coordinator.alive) {
        finish({ kind: 'refused', code: 'connection refused' });
        return;
      }
      coordinator.deliver(() =>
        act(coordinator, (reply) => {
          if (!random.chance(0.05)) agenda.after(network.delayMs(name, 'user'), () => finish(reply));
        }),
      );
    });
  }
}
