/** What goes wrong: at random times, and at the moments that matter most. After the last fault everything is repaired. */
import { CoordinatorHost } from './coordinator_host.js';
import type { Moment } from './moment.js';
import { Random } from './random.js';
import type { Fault } from './scenario.js';
import { WorkerHost } from './worker_host.js';
import type { World } from './world.js';

export class Faults {
  readonly #random: Random;
  readonly #restarts = new Map<string, number>();
  readonly #gone = new Set<string>();
  #momentsLeft: number;
  over = false;

  constructor(private readonly world: World) {
    const { scenario, agenda } = world;
    this.#random = new Random(scenario.seed, 2);
    this.#momentsLeft = scenario.momentFaults;
    for (const name of scenario.coordinators) this.#startCoordinator(name);
    for (const { name, startsAtMs, leavesAtMs } of scenario.workers) {
      agenda.after(startsAtMs, () => this.#startWorker(name));
      if (leavesAtMs !== undefined) agenda.after(leavesAtMs, () => this.#leave(name));
    }
    for (let i = 0; i < scenario.timedFaults; i++) {
      agenda.after(this.#random.between(300, scenario.faultsUntilMs), () => this.#strikeAnything());
    }
    for (const { worker, atMs } of scenario.preflights?.takenBack ?? [])
      agenda.after(atMs, () => this.#uncordon(worker));
    world.onMoment = (moment, process) => this.#momentCame(moment, process);
    agenda.after(scenario.faultsUntilMs, () => this.#repair());
  }

  #startWorker(name: string): void {
    if (this.#gone.has(name) || this.world.workers.get(name)?.alive === true) return;
    this.world.workers.set(name, new WorkerHost(this.world, name, this.#nextRestart(name)));
    this.world.say(name, '* starts');
  }

  #startCoordinator(name: string): void {
    if (this.world.coordinators.get(name)?.alive === true) return;
    this.world.coordinators.set(name, new CoordinatorHost(this.world, name, this.#nextRestart(name)));
    this.world.say(name, '* starts');
  }

  #nextRestart(name: string): number {
    const count = (this.#restarts.get(name) ?? 0) + 1;
    this.#restarts.set(name, count);
    return count;
  }

  #leave(name: string): void {
    this.#gone.add(name);
    this.#kill(this.world.workers.get(name), false);
  }

  #kill(process: WorkerHost | CoordinatorHost | undefined, vanishes: boolean): void {
    if (process === undefined || !process.alive) return;
    this.world.say(process.name, vanishes ? '* vanishes' : '* is killed');
    process.vanished = vanishes;
    process.die();
  }

  #momentCame(moment: Moment, process: string): void {
    const { scenario, agenda } = this.world;
    if (this.over || this.#momentsLeft <= 0 || !scenario.moments.includes(moment)) return;
    if (!this.#random.chance(scenario.momentChance)) return;
    this.#momentsLeft -= 1;
    const delayMs = this.#random.chance(0.6) ? this.#random.between(0, 1) : this.#random.between(0, 30);
    agenda.after(delayMs, () => {
      if (this.over) return;
      this.world.say(process, `* a fault at ${moment}`);
      if (this.#random.chance(0.3)) this.#strikeAnything();
      else this.#strike(this.#random.pick(scenario.faults), this.#random.chance(0.7) ? process : undefined);
    });
  }

  #strikeAnything(): void {
    if (!this.over) this.#strike(this.#random.pick(this.world.scenario.faults), undefined);
  }

  #workerOf(near: string | undefined): WorkerHost | undefined {
    const named = this.world.workers.get(near ?? '');
    if (named?.alive === true) return named;
    const alive = [...this.world.workers.values()].filter((worker) => worker.alive);
    return alive.length === 0 ? undefined : this.#random.pick(alive);
  }

  #coordinatorOf(near: string | undefined): CoordinatorHost | undefined {
    const leader = this.world.etcd.leader?.name;
    const name = this.world.coordinators.has(near ?? '') ? near : this.#random.chance(0.7) ? leader : undefined;
    const named = this.world.coordinators.get(name ?? '');
    if (named?.alive === true) return named;
    const alive = [...this.world.coordinators.values()].filter((coordinator) => coordinator.alive);
    return alive.length === 0 ? undefined : this.#random.pick(alive);
  }

  #for(durationMs: number, end: () => void): void {
    this.world.agenda.after(durationMs, () => {
      if (!this.over) end();
    });
  }

  /** `near` is the process at which something has just happened. */
  #strike(fault: Fault, near: string | undefined): void {
    const random = this.#random;
    if (random.chance(this.world.scenario.pairs)) this.#for(random.scaled(0.1, 300), () => this.#strikeAnything());
    const { etcd } = this.world;
    this.world.say(near ?? '', `* ${fault}`);
    switch (fault) {
      case 'kill_worker':
      case 'vanish_worker':
        this.#killWorker(this.#workerOf(near), fault === 'vanish_worker');
        break;
      case 'stop_worker':
        this.#stopWorker(this.#workerOf(near));
        break;
      case 'freeze_worker':
        this.#freezeWorker(this.#workerOf(near));
        break;
      case 'cut_session':
        this.#workerOf(near)?.cutSession();
        break;
      case 'crash_engine':
      case 'hang_engine':
        this.#breakEngine(this.#workerOf(near), fault);
        break;
      case 'slow_worker': {
        const worker = this.#workerOf(near);
        if (worker !== undefined) worker.slowness = random.between(2, 10);
        break;
      }
      case 'kill_coordinator':
        this.#killCoordinator(this.#coordinatorOf(near));
        break;
      case 'stop_coordinator':
        this.#stopCoordinator(this.#coordinatorOf(near));
        break;
      case 'freeze_coordinator':
        this.#freezeCoordinator(this.#coordinatorOf(near));
        break;
      case 'part_workers':
      case 'part_session':
      case 'part_etcd':
        this.#part(fault, near);
        break;
      case 'stop_etcd':
        etcd.down = true;
        this.#for(random.scaled(100, 9_000), () => etcd.comeBack());
        break;
      case 'lose_replies':
        etcd.lostReplies = random.between(0.05, 0.9);
        this.#for(random.scaled(300, 9_000), () => {
          etcd.lostReplies = 0;
        });
        break;
      case 'slow_etcd':
        etcd.extraMs = random.scaled(20, 1_500);
        this.#for(random.scaled(300, 4_000), () => {
          etcd.extraMs = 0;
        });
        break;
      case 'revoke_leases':
        etcd.revokeAll();
        break;
      case 'jump_clock': {
        const names = [...this.world.workers.keys(), ...this.world.coordinators.keys()];
        if (names.length > 0) this.world.wallOffsets.set(random.pick(names), random.between(-3.6e6, 3.6e6));
        break;
      }
      case 'slow_link':
        this.world.network.slowDown(near ?? random.pick(this.world.scenario.coordinators), random.scaled(5, 400));
        break;
      case 'kill_job':
        for (const worker of this.#workersOfAJob(near)) this.#killWorker(worker, random.chance(0.1));
        break;
      case 'kill_everything':
      case 'stop_everything':
        this.#endEverything(fault);
        break;
      case 'stop_last_worker':
        this.#stopLastWorker(near);
        break;
      case 'cordon_worker':
      case 'drain_worker':
        this.#tellOfNode(fault, near);
        break;
      case 'spoil_checkpoint':
      case 'part_storage':
      case 'fill_storage':
      case 'slow_storage':
        this.#strikeStorage(fault);
        break;
    }
  }

  /** An operator takes a worker out of service for a while. Whoever leads when it is to be over may be another coordinator. */
  #tellOfNode(fault: 'cordon_worker' | 'drain_worker', near: string | undefined): void {
    const worker = this.#workerOf(near)?.name;
    if (worker === undefined) return;
    this.#leading()?.changeNode(worker, fault === 'drain_worker' ? this.#random.scaled(10, 5_000) : undefined);
    // Also when the faults are over: nobody is to be left without workers.
    this.world.agenda.after(this.#random.scaled(100, 6_000), () => this.#uncordon(worker));
  }

  #leading(): CoordinatorHost | undefined {
    return [...this.world.coordinators.values()].find(
      ({ alive, frozen, state }) => alive && !frozen && state.leading !== undefined,
    );
  }

  #uncordon(worker: string): void {
    const again = (): void => this.world.agenda.after(500, () => this.#uncordon(worker));
    const leading = this.#leading();
    leading?.uncordon(worker, (reply) => {
      if (reply.kind === 'refused' && reply.code !== 'not_found') again();
    });
    if (leading === undefined) again();
  }

  /** Everybody who has anything to do with one of the jobs. */
  #workersOfAJob(near: string | undefined): readonly WorkerHost[] {
    const job = this.#workerOf(near)?.state.run?.job;
    return [...this.world.workers.values()].filter(({ alive, state }) => alive && state.run?.job === job);
  }

  #endEverything(fault: 'kill_everything' | 'stop_everything'): void {
    for (const worker of this.world.workers.values()) {
      if (!worker.alive) continue;
      if (fault === 'kill_everything') this.#killWorker(worker, this.#random.chance(0.1));
      else this.#stopWorker(worker);
    }
    for (const coordinator of this.world.coordinators.values()) {
      if (!coordinator.alive) continue;
      if (fault === 'kill_everything') this.#killCoordinator(coordinator);
      else this.#stopCoordinator(coordinator);
    }
  }

  /** The others of its job are gone, and then it is told to go, too. */
  #stopLastWorker(near: string | undefined): void {
    const [last, ...others] = this.#workersOfAJob(near);
    for (const worker of others) this.#killWorker(worker, false);
    this.#for(this.#random.scaled(1, 800), () => this.#stopWorker(last));
  }

  #strikeStorage(fault: 'spoil_checkpoint' | 'part_storage' | 'fill_storage' | 'slow_storage'): void {
    const { storage } = this.world;
    const random = this.#random;
    switch (fault) {
      case 'spoil_checkpoint':
        if (random.chance(0.3)) for (const path of storage.paths) storage.spoil(path, random);
        else if (storage.paths.length > 0) storage.spoil(random.pick(storage.paths), random);
        break;
      case 'part_storage':
        storage.reachable = false;
        this.#for(random.scaled(100, 9_000), () => {
          storage.reachable = true;
        });
        break;
      case 'fill_storage':
        storage.failures = random.between(0.1, 1);
        this.#for(random.scaled(300, 5_000), () => {
          storage.failures = 0;
        });
        break;
      case 'slow_storage':
        storage.slowness = random.scaled(2, 50);
        this.#for(random.scaled(300, 5_000), () => {
          storage.slowness = 1;
        });
        break;
    }
  }

  #killWorker(worker: WorkerHost | undefined, vanishes: boolean): void {
    this.#kill(worker, vanishes);
    if (worker === undefined) return;
    const { name } = worker;
    const downMs = this.#random.chance(0.5) ? this.#random.between(1, 500) : this.#random.scaled(100, 8_000);
    this.#for(downMs, () => this.#startWorker(name));
  }

  #stopWorker(worker: WorkerHost | undefined): void {
    if (worker === undefined) return;
    worker.stop();
    this.#restart(
      () => worker.alive,
      () => this.#startWorker(worker.name),
    );
  }

  #stopCoordinator(coordinator: CoordinatorHost | undefined): void {
    if (coordinator === undefined) return;
    coordinator.stop();
    this.#restart(
      () => coordinator.alive,
      () => this.#startCoordinator(coordinator.name),
    );
  }

  /** As systemd does, also when everything else is repaired. */
  #restart(alive: () => boolean, start: () => void): void {
    this.world.agenda.after(this.#random.scaled(50, 3_000), () => {
      if (alive()) this.#restart(alive, start);
      else start();
    });
  }

  #killCoordinator(coordinator: CoordinatorHost | undefined): void {
    this.#kill(coordinator, this.#random.chance(0.2));
    if (coordinator === undefined) return;
    const { name } = coordinator;
    this.#for(this.#random.scaled(50, 8_000), () => this.#startCoordinator(name));
  }

  #freezeWorker(worker: WorkerHost | undefined): void {
    if (worker === undefined) return;
    worker.freeze();
    if (this.#random.chance(0.4)) for (const engine of worker.engines.values()) engine.freeze();
    this.#for(this.#random.scaled(50, this.world.scenario.longestFreezeMs), () => this.#thawWorker(worker));
  }

  #thawWorker(worker: WorkerHost): void {
    if (!worker.alive) return;
    this.world.say(worker.name, '* thaws');
    for (const engine of worker.engines.values()) engine.thaw();
    worker.thaw();
  }

  #freezeCoordinator(coordinator: CoordinatorHost | undefined): void {
    if (coordinator === undefined) return;
    coordinator.freeze();
    this.#for(this.#random.scaled(50, this.world.scenario.longestFreezeMs), () => {
      this.world.say(coordinator.name, '* thaws');
      coordinator.thaw();
    });
  }

  #breakEngine(worker: WorkerHost | undefined, fault: 'crash_engine' | 'hang_engine'): void {
    for (const engine of worker?.engines.values() ?? []) {
      this.world.oracle.engineFaults += 1;
      if (fault === 'crash_engine') engine.kill('signal SIGSEGV');
      else engine.hangsNext = true;
    }
  }

  #part(fault: 'part_workers' | 'part_session' | 'part_etcd', near: string | undefined): void {
    const { network } = this.world;
    const from = fault === 'part_etcd' && this.#random.chance(0.6) ? this.#coordinatorOf(near) : this.#workerOf(near);
    if (from === undefined) return;
    const others = [...this.world.workers.keys()].filter((name) => name !== from.name);
    const to =
      fault === 'part_etcd'
        ? 'etcd'
        : fault === 'part_session'
          ? this.#coordinatorOf(undefined)?.name
          : others.length === 0
            ? undefined
            : this.#random.pick(others);
    if (to === undefined) return;
    const oneWay = this.#random.chance(0.4);
    const [first, second] = this.#random.chance(0.5) ? [from.name, to] : [to, from.name];
    network.block(first, second);
    if (!oneWay) network.block(second, first);
    this.#for(this.#random.scaled(100, 9_000), () => {
      network.unblock(first, second);
      if (!oneWay) network.unblock(second, first);
    });
  }

  /** Everything works again, and whoever is dead comes back, except those that have left for good. */
  #repair(): void {
    const { etcd, network, storage, workers, coordinators, scenario } = this.world;
    this.world.say('', '* everything is repaired');
    this.over = true;
    this.world.oracle.repairedMs = this.world.agenda.nowMs;
    network.heal();
    etcd.lostReplies = 0;
    etcd.extraMs = 0;
    if (etcd.down) etcd.comeBack();
    storage.reachable = true;
    storage.failures = 0;
    storage.slowness = 1;
    this.world.spoiltPieces = 0;
    for (const worker of workers.values()) {
      worker.slowness = 1;
      this.#thawWorker(worker);
    }
    for (const coordinator of coordinators.values()) coordinator.thaw();
    for (const name of scenario.coordinators) this.#startCoordinator(name);
    for (const { name, startsAtMs } of scenario.workers)
      if (startsAtMs < this.world.agenda.nowMs) this.#startWorker(name);
  }
}
