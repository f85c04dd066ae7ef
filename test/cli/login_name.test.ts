import { expect, it, vi } from 'vitest';
import { JobsClient } from '../../cli/jobs_client.js';
import { loginName } from '../../cli/login_name.js';

vi.mock('node:os', async (original) => ({
  ...(await original<typeof import('node:os')>()),
  userInfo: () => {
    throw new Error('uv_os_get_passwd returned ENOENT');
  },
}));

it('a user whom the system knows by number only has that for a name', () => {
  expect(loginName()).toBe(`uid${process.getuid?.()}`);
});

it('and can ask a coordinator', () => {
  new JobsClient({ servers: ['127.0.0.1:1'], signal: new AbortController().signal }).close();
});
