import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type Decision,
  type PlacedJob,
  type Placement,
  type PlacementInput,
  placeJobs,
} from '../../../coordinator/core/placement.js';

interface TestJob extends Omit<PlacedJob, 'misfit' | 'requirement'> {
  /** Workers that cannot take it. */
  readonly misfits: readonly string[];
}

const JOB: TestJob = {
  job: 'j',
  user: 'ann',
  priority: 0,
  submittedMs: 0,
  workersMin: 1,
  workersMax: 1,
  held: [],
  short: false,
  stuck: false,
  steady: false,
  canBeSaved: true,
  backfilled: false,
  yields: false,
  misfits: [],
};

function running(job: Partial<TestJob> & Pick<TestJob, 'job' | 'held'>): TestJob {
  return { ...JOB, steady: true, ...job };
}

interface Cluster {
  readonly jobs: readonly TestJob[];
  readonly idle?: readonly string[];
  readonly coming?: readonly string[];
  readonly barred?: readonly string[];
  readonly quarantined?: readonly string[];
  readonly scarce?: readonly string[];
  readonly spares?: number;
  readonly quota?: number;
  readonly usage?: Readonly<Record<string, number>>;
}

function inputOf(cluster: Cluster): PlacementInput {
  const placed = (worker: string) => ({
    worker,
    scarcity: cluster.scarce?.includes(worker) ? 1 : 0,
    quarantined: cluster.quarantined?.includes(worker) ?? false,
  });
  return {
    jobs: cluster.jobs.map(({ misfits, ...job }) => ({
      ...job,
      requirement: misfits.join(),
      misfit: (worker) => (misfits.includes(worker) ? 'no GPU' : undefined),
    })),
    idle: (cluster.idle ?? []).map(placed),
    barred: cluster.barred ?? [],
    coming: (cluster.coming ?? []).map(placed),
    spares: cluster.spares ?? 0,
    quotaOf: () => cluster.quota ?? Number.POSITIVE_INFINITY,
    usageOf: (user) => cluster.usage?.[user] ?? 0,
  };
}

const place = (cluster: Cluster): Placement => placeJobs(inputOf(cluster));

/** "job<worker" for an assignment, "job>worker" for a withdrawal, "job!" for one that is sent away. */
function told({ decisions }: Placement): readonly string[] {
  return decisions.map((decision) => {
    if (decision.kind === 'preempt') return `${decision.job}!`;
    return `${decision.job}${decision.kind === 'assign' ? '<' : '>'}${decision.worker}`;
  });
}

describe('a job', () => {
  it('gets its minimum at once, or nothing', () => {
    const job = { ...JOB, workersMin: 3, workersMax: 3 };
    expect(told(place({ jobs: [job], idle: ['w1', 'w2'] }))).toEqual([]);
    expect(told(place({ jobs: [job], idle: ['w1', 'w2', 'w3'] }))).toEqual(['j<w1', 'j<w2', 'j<w3']);
  });

  it('says what it waits for', () => {
    const job = { ...JOB, workersMin: 3, workersMax: 3, misfits: ['w2', 'w3'] };
    const { waits } = place({ jobs: [job], idle: ['w1', 'w2', 'w3'] });
    expect(waits.get('j')).toBe('waits for 3 workers, of which 1 is idle; 2 workers: no GPU');
  });

  it('grows into what is idle, but for the spares', () => {
    const job = running({ job: 'j', held: ['w1'], workersMax: 4 });
    expect(told(place({ jobs: [job], idle: ['w2', 'w3', 'w4', 'w5'], spares: 2 }))).toEqual(['j<w4', 'j<w5']);
  });

  it('takes a worker that others need least, and one that fails often last', () => {
    const job = { ...JOB, workersMin: 3, workersMax: 3 };
    const cluster = { jobs: [job], idle: ['w1', 'w2', 'w3', 'w4'], scarce: ['w1'], quarantined: ['w2'] };
    expect(told(place(cluster))).toEqual(['j<w3', 'j<w4', 'j<w1']);
  });

  it('does not grow into a worker that fails often', () => {
    const job = running({ job: 'j', held: ['w1'], workersMax: 4 });
    expect(told(place({ jobs: [job], idle: ['w2'], quarantined: ['w2'] }))).toEqual([]);
  });
});

describe('of two jobs', () => {
  const young = { ...JOB, job: 'young', submittedMs: 2 };
  const old = { ...JOB, job: 'old', submittedMs: 1 };

  it('the older one comes first', () => {
    expect(told(place({ jobs: [young, old], idle: ['w1'] }))).toEqual(['old<w1']);
  });

  it('the one of higher priority comes first', () => {
    expect(told(place({ jobs: [{ ...young, priority: 1 }, old], idle: ['w1'] }))).toEqual(['young<w1']);
  });

  it('the one whose user has had less comes first', () => {
    const jobs = [{ ...young, user: 'bob' }, old];
    expect(told(place({ jobs, idle: ['w1'], usage: { ann: 100, bob: 10 } }))).toEqual(['young<w1']);
  });

  it('users take turns while they have had the same', () => {
    const jobs = ['a1', 'a2', 'b1', 'b2'].map((job, submittedMs) => ({
      ...JOB,
      job,
      submittedMs,
      user: job.startsWith('a') ? 'ann' : 'bob',
    }));
    expect(told(place({ jobs, idle: ['w1', 'w2', 'w3', 'w4'] }))).toEqual(['a1<w1', 'b1<w2', 'a2<w3', 'b2<w4']);
  });

  it('the one that has lost a worker comes first', () => {
    const short = running({
      job: 'young',
      submittedMs: 2,
      held: ['w1'],
      workersMin: 2,
      workersMax: 2,
      steady: false,
      short: true,
    });
    expect(told(place({ jobs: [old, short], idle: ['w2'] }))).toEqual(['young<w2']);
  });

  it('a small one is let by while a large one cannot start, and is sent away when that can', () => {
    const large = { ...old, workersMin: 3, workersMax: 3 };
    const before = place({ jobs: [large, young], idle: ['w1', 'w2'] });
    expect(before.decisions).toEqual([{ kind: 'assign', job: 'young', worker: 'w1', backfilled: true }]);
    const small = { ...running({ job: 'young', submittedMs: 2, held: ['w1'] }), yields: true };
    expect(told(place({ jobs: [large, small], idle: ['w2', 'w3'] }))).toEqual(['young!']);
    expect(told(place({ jobs: [large, { ...small, canBeSaved: false }], idle: ['w2', 'w3'] }))).toEqual([]);
    expect(told(place({ jobs: [large, { ...small, yields: false }], idle: ['w2', 'w3'] }))).toEqual([]);
  });

  it('one that was let by is still so when it has got another worker for one that it lost', () => {
    const large = { ...old, workersMin: 3, workersMax: 3 };
    const lost = { ...young, held: ['w1'], workersMin: 2, workersMax: 2, short: true, backfilled: true };
    const { decisions } = place({ jobs: [large, lost], idle: ['w2'] });
    expect(decisions).toEqual([{ kind: 'assign', job: 'young', worker: 'w2', backfilled: true }]);
  });
});

describe('many jobs that cannot start', () => {
  it('do not hold up one that can', () => {
    const large = Array.from({ length: 100 }, (_, submittedMs) => {
      return { ...JOB, job: `large-${submittedMs}`, submittedMs, priority: 1, workersMin: 9, workersMax: 9 };
    });
    const { decisions, waits } = place({ jobs: [...large, { ...JOB, job: 'small', user: 'bob' }], idle: ['w1'] });
    expect(decisions).toEqual([{ kind: 'assign', job: 'small', worker: 'w1', backfilled: true }]);
    expect(waits.get('large-99')).toBe('waits for 9 workers, of which 1 is idle');
  });

  it('for the sake of a quota do not either', () => {
    const many = Array.from({ length: 100 }, (_, submittedMs) => {
      return { ...JOB, job: `large-${submittedMs}`, submittedMs, priority: 1, workersMin: 3, workersMax: 3 };
    });
    const jobs = [...many, { ...JOB, job: 'small', user: 'bob' }];
    expect(told(place({ jobs, idle: ['w1', 'w2', 'w3', 'w4'], quota: 2 }))).toEqual(['small<w1']);
  });
});

describe('a job that waits', () => {
  const waiting = { ...JOB, job: 'new', submittedMs: 9, workersMin: 2, workersMax: 2 };

  it('takes back what was lent, of the fullest first', () => {
    const jobs = [
      waiting,
      running({ job: 'a', held: ['w1', 'w2'], workersMax: 4 }),
      running({ job: 'b', held: ['w3', 'w4', 'w5'], workersMax: 4 }),
    ];
    const placement = place({ jobs });
    expect(told(placement)).toEqual(['b>w5', 'b>w4']);
    expect(placement.waits.get('new')).toBe('waits for 2 workers that smaller jobs are giving up');
  });

  it('does not take from a job of higher priority, nor from one that makes no steps', () => {
    const full = running({ job: 'a', held: ['w1', 'w2', 'w3'], workersMax: 4 });
    expect(told(place({ jobs: [waiting, { ...full, priority: 1 }] }))).toEqual([]);
    expect(told(place({ jobs: [waiting, { ...full, steady: false }] }))).toEqual([]);
  });

  it('waits for those that are coming, and takes no others', () => {
    const jobs = [waiting, running({ job: 'a', held: ['w1', 'w2', 'w3'], workersMax: 4 })];
    const placement = place({ jobs, idle: ['w4'], coming: ['w5'] });
    expect(told(placement)).toEqual([]);
    expect(placement.waits.get('new')).toBe('waits for 1 worker that others are giving up');
  });

  it('has the youngest of the lowest priority sent away, and no more than it needs', () => {
    const jobs = [
      { ...waiting, priority: 5 },
      running({ job: 'a', held: ['w1', 'w2'], workersMin: 2, workersMax: 2, submittedMs: 1 }),
      running({ job: 'b', held: ['w3', 'w4'], workersMin: 2, workersMax: 2, submittedMs: 2 }),
      running({ job: 'c', held: ['w5', 'w6'], workersMin: 2, workersMax: 2, priority: 1 }),
    ];
    const placement = place({ jobs });
    expect(placement.decisions).toEqual([{ kind: 'preempt', job: 'b', reason: 'sent away for job new (priority 5)' }]);
    expect(placement.waits.get('new')).toBe('waits for b to be saved');
  });

  it('has one sent away that is stuck with fewer workers than it needs, unless that is above it', () => {
    const stuck = { ...JOB, job: 'a', held: ['w1', 'w2'], workersMin: 3, workersMax: 3, short: true, stuck: true };
    const { decisions } = place({ jobs: [waiting, stuck] });
    expect(decisions).toEqual([
      { kind: 'preempt', job: 'a', reason: 'sent away for job new (it lacked workers itself)' },
    ]);
    expect(told(place({ jobs: [waiting, { ...stuck, priority: 1 }] }))).toEqual([]);
    expect(told(place({ jobs: [{ ...waiting, workersMin: 3, workersMax: 3 }, stuck] }))).toEqual([]);
    expect(told(place({ jobs: [waiting, stuck], idle: ['w3'] }))).toEqual(['a<w3']);
  });

  it('and is itself stuck has only one of them sent away', () => {
    const half = { ...JOB, workersMin: 3, workersMax: 3, short: true, stuck: true };
    const jobs = [
      { ...half, job: 'old', held: ['w1', 'w2'], submittedMs: 1 },
      { ...half, job: 'young', held: ['w3', 'w4'], submittedMs: 2 },
    ];
    expect(told(place({ jobs }))).toEqual(['young!']);
  });

  it('gets nothing from one that is stuck and cannot be saved, unless it is older', () => {
    const stuck = {
      ...JOB,
      job: 'a',
      held: ['w1', 'w2'],
      workersMin: 3,
      workersMax: 3,
      stuck: true,
      canBeSaved: false,
    };
    expect(told(place({ jobs: [waiting, stuck] }))).toEqual([]);
    expect(told(place({ jobs: [waiting, { ...stuck, submittedMs: 10 }] }))).toEqual(['a!']);
  });

  it('is told that its user has as many as allowed', () => {
    const jobs = [waiting, running({ job: 'a', held: ['w1'] })];
    const { waits } = place({ jobs, idle: ['w2', 'w3'], quota: 2 });
    expect(waits.get('new')).toBe('waits for the quota of ann: 1 of 2 workers are in use, and it needs 2 more');
  });

  it('gets back what was lent to others of its user where the quota allows no more', () => {
    const grown = running({ job: 'a', held: ['w1', 'w2', 'w3'], workersMax: 4 });
    const placement = place({ jobs: [waiting, grown], idle: ['w4', 'w5', 'w6'], quota: 3 });
    expect(told(placement)).toEqual(['a>w3', 'a>w2']);
    expect(placement.waits.get('new')).toBe('waits for 2 workers that smaller jobs are giving up');
    const next = { jobs: [waiting, { ...grown, held: ['w1'] }], coming: ['w2', 'w3'], idle: ['w4'], quota: 3 };
    expect(told(place(next))).toEqual([]);
    expect(told(place({ jobs: [waiting, { ...grown, priority: 1 }], idle: ['w4', 'w5'], quota: 3 }))).toEqual([]);
  });

  it('has nobody sent away whose workers it does not need', () => {
    const jobs = [
      { ...waiting, priority: 5, workersMin: 3, workersMax: 3 },
      running({ job: 'small', held: ['w1'], submittedMs: 2 }),
      running({ job: 'large', held: ['w2', 'w3', 'w4'], workersMin: 3, workersMax: 3, submittedMs: 1 }),
    ];
    expect(told(place({ jobs }))).toEqual(['large!']);
  });
});

/** Clusters in which some jobs run and some wait. */
const clusters: fc.Arbitrary<Cluster> = fc
  .record({
    workers: fc.integer({ min: 0, max: 12 }),
    shapes: fc.array(
      fc.record({
        user: fc.constantFrom('ann', 'bob', 'cleo'),
        priority: fc.integer({ min: -1, max: 1 }),
        submittedMs: fc.nat(5),
        workersMin: fc.integer({ min: 1, max: 4 }),
        more: fc.nat(3),
        held: fc.nat(7),
        steady: fc.boolean(),
        stuck: fc.boolean(),
        canBeSaved: fc.boolean(),
        yields: fc.boolean(),
        misfits: fc.subarray(['w0', 'w1', 'w2', 'w3', 'w7', 'w8']),
      }),
      { maxLength: 6 },
    ),
    coming: fc.nat(2),
    quarantined: fc.subarray(['w1', 'w4', 'w9']),
    spares: fc.nat(2),
    quota: fc.constantFrom(Number.POSITIVE_INFINITY, 3, 6),
  })
  .map(({ workers, shapes, coming, ...rest }) => {
    const free = Array.from({ length: workers }, (_, index) => `w${index}`);
    const jobs = shapes.map(({ more, held: wanted, misfits, ...shape }, index): TestJob => {
      const fitting = free.filter((worker) => !misfits.includes(worker));
      const held = fitting.slice(0, Math.min(wanted, shape.workersMin + more));
      for (const worker of held) free.splice(free.indexOf(worker), 1);
      const short = held.length > 0 && held.length < shape.workersMin;
      const steady = shape.steady && held.length >= shape.workersMin;
      return {
        ...shape,
        job: `j${index}`,
        workersMax: shape.workersMin + more,
        held,
        short,
        steady,
        stuck: shape.stuck && short,
        misfits,
        backfilled: false,
      };
    });
    return { ...rest, jobs, coming: free.splice(0, coming), idle: free };
  });

function heldAfter({ jobs }: Cluster, decisions: readonly Decision[]): ReadonlyMap<string, ReadonlySet<string>> {
  const held = new Map(jobs.map((job) => [job.job, new Set(job.held)]));
  for (const decision of decisions) {
    if (decision.kind === 'assign') held.get(decision.job)?.add(decision.worker);
    if (decision.kind === 'withdraw') held.get(decision.job)?.delete(decision.worker);
    if (decision.kind === 'preempt') held.get(decision.job)?.clear();
  }
  return held;
}

describe('whatever the cluster', () => {
  const check = (property: (cluster: Cluster, placement: Placement) => void): void =>
    fc.assert(
      fc.property(clusters, (cluster) => {
        property(cluster, place(cluster));
      }),
      { numRuns: 2000 },
    );
  const jobIn = ({ jobs }: Cluster, name: string): TestJob => {
    const job = jobs.find((one) => one.job === name);
    if (job === undefined) throw new Error(`no job ${name}`);
    return job;
  };

  it('only idle workers are given out, each once, to jobs that they fit', () => {
    check((cluster, { decisions }) => {
      const given = decisions.filter((one) => one.kind === 'assign');
      expect(new Set(given.map(({ worker }) => worker)).size).toBe(given.length);
      for (const { job, worker } of given) {
        expect(cluster.idle).toContain(worker);
        expect(jobIn(cluster, job).misfits).not.toContain(worker);
      }
    });
  });

  it('a job gets to its minimum or nothing, and never above its maximum', () => {
    check((cluster, { decisions }) => {
      const held = heldAfter(cluster, decisions);
      for (const job of cluster.jobs) {
        const now = held.get(job.job)?.size ?? 0;
        if (now > job.held.length) {
          expect(now).toBeGreaterThanOrEqual(job.workersMin);
          expect(now).toBeLessThanOrEqual(job.workersMax);
        }
      }
    });
  });

  it('nothing is taken from a job that makes no steps, unless it is stuck, and a withdrawal leaves the minimum', () => {
    check((cluster, { decisions }) => {
      const held = heldAfter(cluster, decisions);
      for (const decision of decisions) {
        if (decision.kind === 'assign') continue;
        const job = jobIn(cluster, decision.job);
        expect(job.steady || (job.stuck && decision.kind === 'preempt')).toBe(true);
        if (decision.kind === 'preempt') expect(job.canBeSaved || job.stuck).toBe(true);
        else if (!decisions.some((one) => one.kind === 'preempt' && one.job === job.job))
          expect(held.get(job.job)?.size).toBeGreaterThanOrEqual(job.workersMin);
      }
    });
  });

  it('a job is sent away for a higher priority only, or because it was let by, or is stuck', () => {
    check((cluster, { decisions, waits }) => {
      for (const decision of decisions) {
        if (decision.kind !== 'preempt') continue;
        const victim = jobIn(cluster, decision.job);
        const waiters = cluster.jobs.filter((job) => waits.has(job.job));
        expect(
          waiters.some(
            (job) =>
              job.priority > victim.priority ||
              (victim.stuck && job !== victim && job.priority === victim.priority) ||
              (victim.yields && job.priority === victim.priority && job.submittedMs < victim.submittedMs),
          ),
        ).toBe(true);
      }
    });
  });

  it('nobody goes beyond a quota by what is given', () => {
    check((cluster, { decisions }) => {
      const { quota = 0 } = cluster;
      const held = heldAfter(cluster, decisions);
      for (const user of ['ann', 'bob', 'cleo']) {
        const own = cluster.jobs.filter((job) => job.user === user);
        const before = own.reduce((sum, job) => sum + job.held.length, 0);
        const now = own.reduce((sum, job) => sum + (held.get(job.job)?.size ?? 0), 0);
        if (now > before) expect(now).toBeLessThanOrEqual(quota);
      }
    });
  });

  it('whoever has not got its minimum is told why, and nobody else', () => {
    check((cluster, { decisions, waits }) => {
      const held = heldAfter(
        cluster,
        decisions.filter(({ kind }) => kind === 'assign'),
      );
      for (const job of cluster.jobs) {
        const isSentAway = decisions.some((one) => one.kind === 'preempt' && one.job === job.job);
        expect(waits.has(job.job)).toBe(!isSentAway && (held.get(job.job)?.size ?? 0) < job.workersMin);
      }
    });
  });

  it('it is decided the same again', () => {
    check((cluster, placement) => expect(place(cluster)).toEqual(placement));
  });
});
