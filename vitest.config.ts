import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Tests of whole clusters start etcd, daemons and engines, each its own process.
    testTimeout: 120_000,
    // What the tests compare is computed on the processor, also where there is a GPU; test/gpu has a run of its own.
    env: { CUDA_VISIBLE_DEVICES: '' },
    hookTimeout: 120_000,
    setupFiles: ['test/patience.ts'],
    expect: { poll: { timeout: 10_000 } },
    // Two at a time: more would measure each other on a machine with two cores.
    maxWorkers: 2,
  },
});
