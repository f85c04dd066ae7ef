import { expect, it } from 'vitest';
import { FailedLogins } from '../../../coordinator/web/failed_logins.js';
import { plainAddress, TrustedProxies } from '../../../coordinator/web/trusted_proxies.js';

const proxies = new TrustedProxies(['127.0.0.1', '10.0.0.0/8', 'fd00::/8']);

it.each([
  ['203.0.113.7', undefined, '203.0.113.7'],
  ['203.0.113.7', '198.51.100.1', '203.0.113.7'],
  ['127.0.0.1', undefined, '127.0.0.1'],
  ['127.0.0.1', '198.51.100.1', '198.51.100.1'],
  ['127.0.0.1', '1.1.1.1,198.51.100.1', '198.51.100.1'],
  // A chain of them: the first that is not one of ours.
  ['127.0.0.1', '1.1.1.1, 198.51.100.1, 10.1.2.3', '198.51.100.1'],
  ['fd00::1', '2001:db8::5, 10.1.2.3', '2001:db8::5'],
  ['127.0.0.1', '10.9.9.9, 10.1.2.3', '10.9.9.9'],
  ['127.0.0.1', '198.51.100.1:50123', '198.51.100.1'],
  ['127.0.0.1', '[2001:db8::5]:443', '2001:db8::5'],
  ['127.0.0.1', '::ffff:198.51.100.1', '198.51.100.1'],
  ['127.0.0.1', '198.51.100.1, unknown', '127.0.0.1'],
  ['127.0.0.1', 'x'.repeat(16_000), '127.0.0.1'],
  ['127.0.0.1', '', '127.0.0.1'],
  ['', '198.51.100.1', ''],
])('a request from %s that was forwarded for %s is that of %s', (address, forwarded, client) => {
  expect(proxies.clientOf(address, { 'x-forwarded-for': forwarded })).toBe(client);
});

it('an IPv4 address is known as such on a port for both', () => {
  expect(plainAddress('::ffff:127.0.0.1')).toBe('127.0.0.1');
  expect(plainAddress('::1')).toBe('::1');
});

it('however many clients fail, no more than 1,000 are kept', () => {
  const failed = new FailedLogins();
  const tenOf = (address: string) => Array.from({ length: 10 }, () => failed.failed(address, 0));
  tenOf('first');
  for (let client = 0; client < 999; client++) failed.failed(`c${client}`, 0);
  expect(failed.waitSeconds('first', 1)).toBe(60);
  failed.failed('another', 0);
  expect(failed.waitSeconds('first', 1)).toBe(0);
});
