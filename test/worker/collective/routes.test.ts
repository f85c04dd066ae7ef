import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { additionsFor, blocksFor, coverOf, nodeKey, rootOf } from '../../../shared/tree.js';
import { HostGroups } from '../../../worker/collective/host_groups.js';
import { type Placement, type Routes, routesFor, type SegmentSum } from '../../../worker/collective/routes.js';
import { BUCKET_BYTES } from '../../../worker/collective/segments.js';

interface Roster {
  /** Of each rank. */
  readonly hosts: readonly number[];
  readonly microbatches: number;
  readonly placements: readonly Placement[];
}

/** Too long for one shot. */
const LONG_BYTES = 2 * BUCKET_BYTES;

function routesOfAll({ hosts, microbatches, placements }: Roster, vectorBytes = LONG_BYTES): readonly Routes[] {
  const groups = new HostGroups(hosts.map((host) => `${host}:1`));
  return hosts.map((_, rank) => routesFor({ vectorBytes, rank, groups, microbatches, placements }));
}

/** Blocks of any size on workers of any hosts; some of their nodes are then given to others. */
const rosters: fc.Arbitrary<Roster> = fc
  .record({
    workers: fc.array(fc.record({ host: fc.nat({ max: 3 }), weight: fc.nat({ max: 5 }) }), {
      minLength: 1,
      maxLength: 9,
    }),
    microbatches: fc.integer({ min: 1, max: 40 }),
    moved: fc.array(fc.nat(), { maxLength: 6 }),
  })
  .map(({ workers, microbatches, moved }) => {
    const hosts = workers.map(({ host }) => host);
    const blocks = blocksFor(
      microbatches,
      workers.map(({ weight }, rank) => (rank === 0 ? weight + 1 : weight)),
    );
    const cover = blocks.flatMap((block, rank) => coverOf(block, microbatches).map((node) => ({ node, rank })));
    const placements = cover.map(({ node, rank }, index) => ({
      node,
      rank: (rank + (moved[index] ?? 0)) % hosts.length,
    }));
    return { hosts, microbatches, placements };
  });

function nameOf(segment: number, { node }: Pick<SegmentSum, 'node'>): string {
  return `${segment} ${nodeKey(node)}`;
}

describe('the routes of all workers', () => {
  it('fit together: every sum is made by whoever is asked for it, once, and is asked for by its owner alone', () => {
    fc.assert(
      fc.property(rosters, (roster) => {
        const all = routesOfAll(roster);
        const made = all.map(({ carried }) => carried.map((sum) => nameOf(sum.segment, sum)));
        const asked = all.map(() => [] as string[]);
        for (const { own } of all) {
          for (const term of own.terms) if (term.kind === 'sum') asked[term.rank]?.push(nameOf(own.segment, term));
        }
        expect(asked.map((names) => names.sort())).toEqual(made.map((names) => [...names].sort()));
      }),
    );
  });

  it('add up what the tree adds, and nothing twice', () => {
    fc.assert(
      fc.property(rosters, (roster) => {
        for (const { own, carried } of routesOfAll(roster)) {
          expect(own.node).toEqual(rootOf(roster.microbatches));
          for (const { node, terms } of [own, ...carried]) {
            const given = terms.map((term) => term.node);
            expect(additionsFor(given, node).length).toBe(given.length - 1);
          }
          for (const { terms } of carried) expect(terms.length).toBeGreaterThan(1);
        }
      }),
    );
  });

  it('take the own segment of each host over the network in as few terms as the tree allows', () => {
    fc.assert(
      fc.property(rosters, (roster) => {
        const { hosts, placements } = roster;
        for (const [rank, { own }] of routesOfAll(roster).entries()) {
          for (const host of new Set(hosts)) {
            const there = own.terms.filter((term) => hosts[term.rank] === host);
            const alone = hosts.filter((other) => other === host).length === 1;
            const siblings = there.filter(({ node }) =>
              there.some((other) => additionsOf(roster.microbatches, node.lo, other.node.lo, there)),
            );
            if (host === hosts[rank] || alone) {
              expect(there.length).toBe(placements.filter((placed) => hosts[placed.rank] === host).length);
            } else expect(siblings).toEqual([]);
          }
        }
      }),
    );
  });

  it('are those of workers without hosts when all are on one, or each on its own', () => {
    fc.assert(
      fc.property(rosters, fc.boolean(), (roster, together) => {
        const hosts = roster.hosts.map((_, rank) => (together ? 0 : rank));
        for (const [rank, { own, carried, gathers }] of routesOfAll({ ...roster, hosts }).entries()) {
          expect(carried).toEqual([]);
          expect(own.terms).toEqual(roster.placements.map((placement) => ({ kind: 'partial', ...placement })));
          const others = hosts.slice(1).map((_, index) => (rank + 1 + index) % hosts.length);
          expect(gathers).toEqual(others.map((owner) => ({ segment: owner, rank: owner })));
        }
      }),
    );
  });

  it('of a short vector of which everybody has a partial are one shot: all of every partial, and nothing to gather', () => {
    fc.assert(
      fc.property(rosters, fc.nat({ max: 2 * BUCKET_BYTES }), (roster, vectorBytes) => {
        const { hosts, placements } = roster;
        const all = routesOfAll(roster, vectorBytes);
        const everybodyHasOne = hosts.every((_, rank) => placements.some((placed) => placed.rank === rank));
        const isLittle = (placements.length - 1) * vectorBytes <= BUCKET_BYTES;
        for (const { segments, own, carried, gathers } of all) {
          const isOneShot = hosts.length > 1 && everybodyHasOne && isLittle;
          expect(segments).toBe(isOneShot ? 1 : hosts.length);
          if (!isOneShot) continue;
          expect([own.segment, carried, gathers]).toEqual([0, [], []]);
          expect(own.terms).toEqual(placements.map((placement) => ({ kind: 'partial', ...placement })));
        }
      }),
    );
  });
});

/** Whether two of the nodes, those that begin at the given leaves, are the children of one node. */
function additionsOf(
  microbatches: number,
  left: number,
  right: number,
  among: readonly { readonly node: { readonly lo: number; readonly length: number } }[],
): boolean {
  const a = among.find(({ node }) => node.lo === left)?.node;
  const b = among.find(({ node }) => node.lo === right)?.node;
  if (a === undefined || b === undefined || a.lo + a.length !== b.lo) return false;
  return coverOf({ lo: a.lo, length: a.length + b.length }, microbatches).length === 1;
}
