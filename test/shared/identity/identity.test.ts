import { expect, it } from 'vitest';
import { identityIn, mismatch, ROLES, uriOf } from '../../../shared/identity/identity.js';
import { isLoopback } from '../../../shared/identity/open_address.js';

it.each(ROLES)('the role %s is found again in the certificate that names it', (role) => {
  const identity = { role, name: 'a.B-1_c' };
  expect(identityIn(`DNS:host, URI:${uriOf(identity)}, IP Address:10.0.0.1`)).toEqual(identity);
});

it.each([
  undefined,
  '',
  'DNS:lockstep://admin/eve',
  'URI:lockstep://root/eve',
  'URI:lockstep://admin/',
  'URI:lockstep://admin/eve/w1',
  'URI:lockstep://admin/eve?role=viewer',
  'URI:lockstep://ADMIN/eve',
  'URI:http://admin/eve',
  `URI:lockstep://admin/${'e'.repeat(64)}`,
  'URI:lockstep://worker/w1, URI:lockstep://admin/eve',
  'DNS:"a, URI:lockstep://admin/eve, b"',
])('nobody is named by %j', (names) => {
  expect(identityIn(names)).toBeUndefined();
});

it('what is wrong with the other end is said with both names', () => {
  expect(mismatch('URI:lockstep://worker/w1', { role: 'worker', name: 'w1' })).toBeUndefined();
  expect(mismatch('URI:lockstep://worker/w1', { role: 'worker' })).toBeUndefined();
  expect(mismatch('URI:lockstep://worker/w1', { role: 'worker', name: 'w2' })).toBe(
    'the certificate is that of worker w1, not of worker w2',
  );
  expect(mismatch('DNS:host', { role: 'coordinator' })).toBe("the certificate is nobody's, not of a coordinator");
});

it.each([
  ['127.0.0.1:1', true],
  ['127.9.8.7:0', true],
  ['[::1]:7400', true],
  ['LocalHost:7400', true],
  ['[::ffff:7f00:2]:7400', true],
  ['0.0.0.0:7400', false],
  ['[::]:7400', false],
  ['10.0.0.1:7400', false],
  ['128.0.0.1:7400', false],
  ['127.0.0.1.example.com:7400', false],
  ['[::ffff:10.0.0.1]:7400', false],
  ['gpu-1:7400', false],
])('%s is a loopback address: %s', (address, expected) => {
  expect(isLoopback(address)).toBe(expected);
});
