import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Tests of whole clusters start etcd, daemons and engines, each its own process.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // Two at a time: more would measure each other on a machine with two cores.
    maxWorkers: 2,
  },
});
