import { defineConfig } from 'vitest/config';

/** The dashboard in a real browser, on a real cluster. */
export default defineConfig({
  test: {
    include: ['test/browser/*.browser.ts'],
    testTimeout: 300_000,
    env: { CUDA_VISIBLE_DEVICES: '' },
    hookTimeout: 120_000,
    fileParallelism: false,
  },
});
