import { describe, expect, it } from 'vitest';
import { coordinatorHealth } from '../../coordinator/health.js';
import { workerHealth } from '../../worker/health.js';

type Run = { readonly engineStart: number; unloading: boolean };

class World {
  readonly state: { session: 'down' | 'greeting' | 'up'; run: Run | undefined } = { session: 'up', run: undefined };
  engines = new Set<number>();
  stopped = false;
  openMs = 1_000_000;
  blind = false;
  readonly problem = workerHealth({
    state: this.state as never,
    hasEngine: (start) => this.engines.has(start),
    session: { hasStopped: () => this.stopped, openForMs: () => this.openMs },
    leaderWatch: { hasStopped: () => this.blind },
  });

  /** What is found when it is looked at every 5 s. */
  during(ms: number): readonly (string | undefined)[] {
    const found: (string | undefined)[] = [];
    for (let at = 0; at <= ms; at += 5000) found.push(this.problem(at));
    return [...new Set(found)];
  }
}

describe('a worker', () => {
  it('that trains is healthy', () => {
    const world = new World();
    world.state.run = { engineStart: 3, unloading: false };
    world.engines.add(3);
    expect(world.during(600_000)).toEqual([undefined]);
  });

  it('that reaches nobody is healthy, for as long as it tries', () => {
    const world = new World();
    world.state.session = 'greeting';
    world.openMs = 3000;
    expect(world.during(600_000)).toEqual([undefined]);
    world.state.session = 'down';
    world.openMs = 0;
    expect(world.during(600_000)).toEqual([undefined]);
  });

  it.each([
    [
      'has lost its engine',
      (world: World) => (world.state.run = { engineStart: 3, unloading: false }),
      /engine neither runs/,
    ],
    [
      'cannot end its engine',
      (world: World) => (world.state.run = { engineStart: 3, unloading: true }),
      /killed is still there/,
    ],
    ['has stopped trying to reach the leader', (world: World) => (world.stopped = true), /nothing tries to reach it/],
    ['does not look who leads', (world: World) => (world.blind = true), /who leads/],
    ['has never begun its session', (world: World) => (world.state.session = 'greeting'), /never begun/],
  ])('that %s is stuck', (_, spoil, expected) => {
    const world = new World();
    world.engines.add(3);
    expect(world.during(60_000)).toEqual([undefined]);
    world.engines.clear();
    spoil(world);
    expect(world.during(120_000).at(-1)).toMatch(expected);
  });

  it('whose engine is started again and again is healthy', () => {
    const world = new World();
    for (let at = 0; at < 600_000; at += 5000) {
      world.state.run = at % 20_000 < 10_000 ? { engineStart: at, unloading: false } : undefined;
      expect(world.problem(at)).toBeUndefined();
    }
  });
});

describe('a coordinator', () => {
  it('is healthy while it leads, stands by, or takes over; not when it only was elected', () => {
    let term: number | undefined;
    let leads = false;
    let stopped = false;
    const problem = coordinatorHealth({
      election: { term: () => term, hasStopped: () => stopped },
      leaderWatch: { hasStopped: () => false },
      leads: () => leads,
    });
    expect(problem(0)).toBeUndefined();
    term = 5;
    expect(problem(1000)).toBeUndefined();
    expect(problem(100_000)).toBeUndefined();
    leads = true;
    expect(problem(200_000)).toBeUndefined();
    leads = false;
    expect(problem(300_000)).toBeUndefined();
    expect(problem(420_000)).toMatch(/has not taken over/);
    term = undefined;
    expect(problem(430_000)).toBeUndefined();
    stopped = true;
    expect(problem(440_000)).toMatch(/election no more/);
  });
});
