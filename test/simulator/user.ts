/** Users: they submit jobs and cancel them, and try again until somebody has said yes. */
import { isTerminal } from '../../coordinator/core/state.js';
import type { CoordinatorHost, Reply } from './coordinator_host.js';
import type { JobPlan } from './scenario.js';
import { Violation, type World } from './world.js';

const DEADLINE_MS = 3_000;

export class User {
  /** Id of the job, once its submit has been acknowledged. */
  job: string | undefined;
  cancelled = false;
  readonly #operationId: string;

  constructor(
    private readonly world: World,
    readonly plan: JobPlan,
  ) {
    this.#operationId = `op-${plan.spec.name}`;
    world.agenda.after(plan.submitAtMs, () => this.#submit());
    if (plan.cancelAtMs !== undefined) world.agenda.after(plan.cancelAtMs, () => this.#cancel());
  }

  #submit(): void {
    if (this.job !== undefined) return;
    const { random } = this.world;
    const request = {
      operationId: this.#operationId,
      spec: this.plan.spec,
      bundle: '/bundle',
      output: `/out/${this.plan.spec.name}`,
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
    const again = () => world.agenda.after(world.random.between(100, 600), () => this.#cancel());
    if (job === undefined) {
      again();
      return;
    }
    if (this.cancelled) return;
    world.oracle.cancelRequested(job);
    this.#call(
      (coordinator, reply) =>
        coordinator.cancel(job, (answer) => {
          const state = world.etcd.jobs.get(job)?.state;
          if (answer.kind === 'done' && (state === undefined || !isTerminal(state))) {
            throw new Violation('I9', `user: the cancel of ${job} is acknowledged and etcd has it ${state}`);
          }
          reply(answer);
        }),
      (answer) => {
        if (answer.kind === 'refused') again();
        else this.cancelled = true;
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
