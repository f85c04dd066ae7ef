import { expect, it } from 'vitest';
import { accessFor, isOnlyLocal, liveAddressOf, refusalOf, strictRefusalOf } from '../../../coordinator/web/access.js';

const own = accessFor('127.0.0.1', 8080, 'machine');

it.each([
  ['127.0.0.1:8080', true],
  ['localhost:8080', true],
  ['LOCALHOST:8080', true],
  ['[::1]:8080', true],
  ['127.0.0.1', false],
  ['127.0.0.1:8081', false],
  ['machine:8080', false],
  // A name of another site that it has resolved to this address.
  ['evil.example:8080', false],
  ['127.0.0.1:8080.evil.example', false],
  ['', false],
  [undefined, false],
])('a request for host %s is answered: %s', (host, answered) => {
  expect(refusalOf(own, { host }) === undefined).toBe(answered);
});

it.each([
  ['http://127.0.0.1:8080', true],
  ['http://localhost:8080', false],
  ['https://127.0.0.1:8080', false],
  ['http://evil.example', false],
  ['http://127.0.0.1:8080.evil.example', false],
  ['null', false],
  ['', false],
])('a page of %s gets an answer: %s', (origin, answered) => {
  const headers = { host: '127.0.0.1:8080', origin };
  expect(refusalOf(own, headers) === undefined).toBe(answered);
  expect(strictRefusalOf(own, headers) === undefined).toBe(answered);
});

it('a live connection must say where it comes from, a plain request need not', () => {
  expect(refusalOf(own, { host: '127.0.0.1:8080' })).toBeUndefined();
  expect(strictRefusalOf(own, { host: '127.0.0.1:8080' })).toBeDefined();
});

it('another site may lead here with a link, and may not read from here', () => {
  const headers = { host: '127.0.0.1:8080', 'sec-fetch-site': 'cross-site' };
  expect(refusalOf(own, { ...headers, 'sec-fetch-mode': 'navigate' })).toBeUndefined();
  expect(refusalOf(own, { ...headers, 'sec-fetch-mode': 'no-cors' })).toBeDefined();
});

it.each([
  ['127.0.0.2', '127.0.0.2:80', true],
  ['127.0.0.2', 'localhost:80', true],
  ['0.0.0.0', 'machine:80', true],
  ['0.0.0.0', 'machine', true],
  ['0.0.0.0', '10.0.0.1', false],
  ['gpu7.example', 'gpu7.example', true],
  ['gpu7.example', 'localhost', false],
])('a server on %s is %s: %s', (configured, host, known) => {
  expect(accessFor(configured, 80, 'machine').hosts.has(host)).toBe(known);
});

const listed = { hosts: ['lockstep.example'], origins: ['https://lockstep.example'] };
const proxied = accessFor('127.0.0.1', 8080, 'machine', listed);

it.each([
  ['lockstep.example', 'https://lockstep.example', true],
  ['lockstep.example', 'http://lockstep.example', false],
  ['lockstep.example', 'https://lockstep.example:8443', false],
  ['127.0.0.1:8080', 'https://lockstep.example', false],
  ['evil.example', 'https://lockstep.example', false],
])('where hosts and origins are listed, a request for %s of %s gets an answer: %s', (host, origin, answered) => {
  expect(strictRefusalOf(proxied, { host, origin }) === undefined).toBe(answered);
});

it('a page that comes over TLS finds its live connection over TLS', () => {
  expect(liveAddressOf(proxied, 'lockstep.example')).toBe('wss://lockstep.example');
  expect(liveAddressOf(own, '127.0.0.1:8080')).toBe('ws://127.0.0.1:8080');
});

it.each([
  ['127.0.0.1', { hosts: [], origins: [] }, true],
  ['localhost', { hosts: ['[::1]:80'], origins: ['http://localhost:80'] }, true],
  // All that a configuration without certificates takes for loopback (shared/identity/open_address.ts).
  ['127.0.0.2', { hosts: ['127.9.9.9:80'], origins: ['http://[::ffff:7f00:1]'] }, true],
  ['[::ffff:7f00:1]', { hosts: [], origins: [] }, true],
  ['127.0.0.2', { hosts: ['127.0.0.2.example:80'], origins: [] }, false],
  ['0.0.0.0', { hosts: [], origins: [] }, false],
  ['10.0.0.1', { hosts: [], origins: [] }, false],
  // Something in front passes on what comes from elsewhere.
  ['127.0.0.1', listed, false],
])('a server on %s with %o is for this machine only: %s', (host, names, local) => {
  expect(isOnlyLocal(host, names)).toBe(local);
});
