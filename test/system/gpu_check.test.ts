/** test/gpu/run.sh itself, where there is no GPU: real jobs on the processor, and what it says without --cpu. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { repository, TEST_MS } from './run_lockstep.js';

function runCheck(...options: readonly string[]) {
  const { status, stdout, stderr } = spawnSync('bash', [join(repository, 'test/gpu/run.sh'), ...options], {
    encoding: 'utf8',
    timeout: TEST_MS,
  });
  return { status, stderr, lines: stdout.split('\n').filter((line) => line !== '') };
}

it(
  'the check of a GPU compares the weights of real jobs, and says what they were computed on',
  () => {
    const { status, stderr, lines } = runCheck('--cpu', '--json', '--steps', '3', '--workers', '1,2');
    expect(stderr).toBe('');
    const events = lines.map((line) => JSON.parse(line));
    expect(events.slice(0, -1).map(({ exchange, workers, engines }) => [exchange, workers, engines.length])).toEqual([
      ['fp32', 1, 1],
      ['fp32', 2, 2],
      ['bf16', 1, 1],
      ['bf16', 2, 2],
    ]);
    expect(events[0].engines[0]).toMatch(/^torch \S+ cpu$/);
    expect(new Set(events.slice(0, -1).map((one) => one.weights_digest)).size).toBe(2);
    expect(events.at(-1)).toMatchObject({ event: 'gpu_check', device: 'CPU', same: true, problems: [] });
    expect(status).toBe(0);
  },
  TEST_MS,
);

it(
  'without a GPU the check says in one line what is missing',
  () => {
    const { status, stderr, lines } = runCheck();
    expect(stderr).toMatch(/^test\/gpu\/run\.sh: the PyTorch .* (has no CUDA; name another|sees no GPU; is its).*\n$/);
    expect(lines).toEqual([]);
    expect(status).toBe(2);
  },
  TEST_MS,
);
