/**
 * Which workers of a roster are on one host, and which of them carries to the others what comes from another host. Pure: whoever
 * has the roster comes to the same answers.
 *
 * Every segment that is owned elsewhere has one carrier on the host, so the host's link carries it once. The segments are dealt out in
 * turn, so no worker carries more than one segment more than another.
 */
import { hostOf } from '../../shared/address.js';

export class HostGroups {
  readonly ranks: readonly number[];
  /** The ranks of each group in ascending order. */
  readonly groups: readonly (readonly number[])[];
  readonly #groupOf: readonly (readonly number[])[];

  /** `addresses`: of each rank, as the roster has them. */
  constructor(addresses: readonly string[]) {
    this.ranks = [...addresses.keys()];
    const byHost = new Map<string, number[]>();
    this.#groupOf = addresses.map((address, rank) => {
      const group = byHost.get(hostOf(address)) ?? [];
      byHost.set(hostOf(address), group);
      group.push(rank);
      return group;
    });
    this.groups = [...byHost.values()];
  }

  /** The ranks on the host of `rank`, itself among them. */
  groupOf(rank: number): readonly number[] {
    const group = this.#groupOf[rank];
    if (group === undefined) throw new Error(`rank ${rank} is not in the roster`);
    return group;
  }

  /** Who of the group carries the segment of `owner`, which is in another one. */
  carrierIn(group: readonly number[], owner: number): number {
    const before = group.filter((rank) => rank < owner).length;
    const carrier = group[(owner - before) % group.length];
    if (carrier === undefined || this.groupOf(owner) === group) throw new Error(`nobody carries segment ${owner}`);
    return carrier;
  }

  /** Whom `rank` pulls the reduced segment of `owner` from: its owner, or its carrier on the own host. */
  sourceOf(owner: number, rank: number): number {
    const group = this.groupOf(rank);
    if (group.includes(owner)) return owner;
    const carrier = this.carrierIn(group, owner);
    return carrier === rank ? owner : carrier;
  }
}
