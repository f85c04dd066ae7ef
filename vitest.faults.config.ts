import { defineConfig } from 'vitest/config';

/** Every row of faults with real processes; takes most of an hour. The fast ones are part of `npm test` as well. */
export default defineConfig({
  test: {
    include: ['test/faults/fast*.test.ts', 'test/faults/*.slow.ts'],
    testTimeout: 600_000,
    env: { CUDA_VISIBLE_DEVICES: '' },
    hookTimeout: 300_000,
    setupFiles: ['test/patience.ts'],
    // One at a time: clusters that share two cores would measure each other.
    fileParallelism: false,
  },
});
