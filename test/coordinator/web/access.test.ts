import { expect, it } from 'vitest';
import { accessFor, refusalOf, upgradeRefusalOf } from '../../../coordinator/web/access.js';

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
  expect(upgradeRefusalOf(own, headers) === undefined).toBe(answered);
});

it('a live connection must say where it comes from, a plain request need not', () => {
  expect(refusalOf(own, { host: '127.0.0.1:8080' })).toBeUndefined();
  expect(upgradeRefusalOf(own, { host: '127.0.0.1:8080' })).toBeDefined();
});

it('another site may lead here with a link, and may not read from here', () => {
  const headers = { host: '127.0.0.1:8080', 'sec-fetch-site': 'cross-site' };
  expect(refusalOf(own, { ...headers, 'sec-fetch-mode': 'navigate' })).toBeUndefined();
  expect(refusalOf(own, { ...headers, 'sec-fetch-mode': 'no-cors' })).toBeDefined();
});

it.each([
  ['0.0.0.0', 'machine:80', true],
  ['0.0.0.0', 'machine', true],
  ['0.0.0.0', '10.0.0.1', false],
  ['gpu7.example', 'gpu7.example', true],
  ['gpu7.example', 'localhost', false],
])('a server on %s is %s: %s', (configured, host, known) => {
  expect(accessFor(configured, 80, 'machine').hosts.has(host)).toBe(known);
});
