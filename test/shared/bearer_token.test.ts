import { expect, it } from 'vitest';
import { lineOfHolder, newToken, parseTokensFile, sha256OfToken } from '../../shared/bearer_token.js';

const hash = 'a'.repeat(64);

it('a new token is another one each time, and its line is read back', () => {
  const token = newToken();
  expect(newToken()).not.toBe(token);
  const holder = { name: 'ada@lab.example', role: 'admin', sha256: sha256OfToken(token) ?? '' } as const;
  expect(parseTokensFile(`# people\n\n${lineOfHolder(holder)}\n`)).toEqual([holder]);
  expect(lineOfHolder(holder)).not.toContain(token);
});

it('a hash alone looks, and no more', () => {
  expect(parseTokensFile(hash)).toEqual([{ name: 'token-aaaaaaaa', role: 'viewer', sha256: hash }]);
});

it.each([
  ['ada', 'line 1: must be NAME ROLE SHA256'],
  [`\nada admin`, 'line 2: must be NAME ROLE SHA256'],
  [`ada root ${hash}`, 'line 1: the role must be viewer, submitter, admin'],
  [`-ada admin ${hash}`, 'line 1: the name must be'],
  [`ada admin ${hash}0`, 'line 1: the sha256 must be 64'],
  [`ada admin ${hash} x`, 'line 1: must be NAME ROLE SHA256'],
  [`${hash}\n`.repeat(1001), 'has 1001 tokens, more than 1000'],
])('the file %j is refused: %s', (text, problem) => {
  expect(() => parseTokensFile(text)).toThrow(problem);
});

it('a text that is too long is no token', () => {
  expect(sha256OfToken('x'.repeat(257))).toBeUndefined();
});
