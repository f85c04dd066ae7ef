import fc from 'fast-check';
import { expect, it } from 'vitest';
import { HostGroups } from '../../../worker/collective/host_groups.js';

it('workers are together whose addresses differ only in the port', () => {
  const groups = new HostGroups(['10.0.0.1:7', '[fe80::1]:7', '10.0.0.1:8', 'node-1:7', '[fe80::1]:9', '[fe80::2]:9']);
  expect(groups.groups).toEqual([[0, 2], [1, 4], [3], [5]]);
  expect([0, 1, 2, 3, 4, 5].map((rank) => groups.groupOf(rank))).toEqual([[0, 2], [1, 4], [0, 2], [3], [1, 4], [5]]);
});

it('each segment is pulled from its owner by one worker of every other host, as many by each as can be', () => {
  const hosts = fc.array(fc.nat({ max: 4 }), { minLength: 1, maxLength: 24 });
  fc.assert(
    fc.property(hosts, (hostOfRank) => {
      const groups = new HostGroups(hostOfRank.map((host, rank) => `${host}:${rank}`));
      for (const group of groups.groups) {
        const carried = new Map(group.map((rank) => [rank, 0]));
        for (const owner of hostOfRank.keys()) {
          const sources = group.filter((rank) => rank !== owner).map((rank) => groups.sourceOf(owner, rank));
          if (group.includes(owner)) {
            expect(new Set(sources).size).toBeLessThan(2);
            continue;
          }
          const carrier = groups.carrierIn(group, owner);
          carried.set(carrier, (carried.get(carrier) ?? 0) + 1);
          expect(groups.sourceOf(owner, carrier)).toBe(owner);
          expect(sources.filter((source) => source === owner).length).toBe(1);
          expect(sources.every((source) => source === owner || source === carrier)).toBe(true);
        }
        expect(Math.max(...carried.values()) - Math.min(...carried.values())).toBeLessThan(2);
      }
    }),
  );
});
