/** Where bench:train trains: a cluster of Lockstep, and for each worker the place where a rank of the peer runs as well. */
import { FaultCluster } from '../test/faults/fault_cluster.js';
import { HERE, hasNamespaces, type Net, type Place, placeOf, shapeLinks } from './nets.js';

export interface TrainGround {
  readonly cluster: FaultCluster;
  readonly places: readonly Place[];
}

export async function openGround(net: Net, workers: number): Promise<TrainGround> {
  const size = { workers, coordinators: 1, separateHosts: net === 'loopback' };
  if (!hasNamespaces(net)) {
    const cluster = await FaultCluster.start(size);
    return { cluster, places: cluster.workers.map(() => HERE) };
  }
  const { cluster, network } = await FaultCluster.startInNetwork(size);
  try {
    shapeLinks(network, cluster.workers, net);
    return { cluster, places: cluster.workers.map((worker) => placeOf(network.host(worker))) };
  } catch (error) {
    await cluster.stop();
    throw error;
  }
}
