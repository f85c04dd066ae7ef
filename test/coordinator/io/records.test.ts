import { expect, it } from 'vitest';
import { fromStore } from '../../../coordinator/io/records.js';
import { accountsKey } from '../../../shared/etcd/keys.js';

function storedSpent(spent: Readonly<Record<string, number>>) {
  const record = { wallMs: 1, users: [], jobs: [{ job: 'j', spent }] };
  return fromStore(new Map([[accountsKey, JSON.stringify(record)]])).accounts?.jobs[0]?.spent;
}

it('what was stored before data, reduce and gather were told apart is still all there', () => {
  const spent = storedSpent({ workerSeconds: 9, computeSeconds: 5, exchangeSeconds: 3, waitingSeconds: 1 });
  expect(spent).toMatchObject({ workerSeconds: 9, dataSeconds: 0, computeSeconds: 5, waitingSeconds: 1 });
  expect(spent).toMatchObject({ reduceSeconds: 3, gatherSeconds: 0 });
  expect(spent).not.toHaveProperty('exchangeSeconds');
});

it('what is stored now is read as it is', () => {
  expect(storedSpent({ reduceSeconds: 2, gatherSeconds: 1 })).toMatchObject({ reduceSeconds: 2, gatherSeconds: 1 });
});
