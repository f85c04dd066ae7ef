import { defineConfig } from 'vitest/config';

/** The units and the package, run by a real systemd on machines of the tests' own. Needs root; takes some minutes. */
export default defineConfig({
  test: {
    include: ['test/systemd/*.slow.ts'],
    testTimeout: 600_000,
    env: { CUDA_VISIBLE_DEVICES: '' },
    hookTimeout: 120_000,
    fileParallelism: false,
  },
});
