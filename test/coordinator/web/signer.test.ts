import { expect, it } from 'vitest';
import { Sessions } from '../../../coordinator/web/sessions.js';
import { Signer } from '../../../coordinator/web/signer.js';

it('knows what it has signed, and nothing else', () => {
  const signer = new Signer();
  const signed = signer.signed('abc.17');
  expect(signer.read(signed)).toBe('abc.17');
  for (const wrong of [`${signed}x`, signed.slice(0, -1), `x${signed}`, 'abc.17', 'abc.17.', '', '.', 'é.x']) {
    expect(signer.read(wrong)).toBeUndefined();
  }
  expect(new Signer().read(signed)).toBeUndefined();
});

it('a login is over after twelve hours', () => {
  const sessions = new Sessions();
  const session = sessions.issue('a'.repeat(64), 1_000);
  expect(sessions.tokenOf(session, 12 * 3_600_000 + 999)).toBe('a'.repeat(64));
  expect(sessions.tokenOf(session, 12 * 3_600_000 + 1_000)).toBeUndefined();
  expect(sessions.tokenOf('nothing', 0)).toBeUndefined();
});
