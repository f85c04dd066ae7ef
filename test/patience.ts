/** What is waited for may take as long as a busy machine makes it, where a test does not say otherwise: by itself vitest gives it one second. */
import { vi } from 'vitest';

const PATIENCE_MS = 10_000;
const { waitFor } = vi;

vi.waitFor = (callback, options = PATIENCE_MS) => waitFor(callback, options);
