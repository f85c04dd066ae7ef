/** A new machine's way to its first certificate: a real coordinator's port, real tokens in a real etcd, and the command that uses them. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join as joinPath } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { join } from '../../../cli/certs/join.js';
import { runProgram } from '../../../cli/program.js';
import type { AuditEntry } from '../../../coordinator/io/audit_log.js';
import { JoinTokens } from '../../../coordinator/io/join_tokens.js';
import { type Joining, startJoining } from '../../../coordinator/io/joining.js';
import { writeIdentity } from '../../../shared/certificates/folder.js';
import { connectEtcd, type EtcdClient } from '../../../shared/etcd/client.js';
import { joinTokenKey, joinTokensFolder } from '../../../shared/etcd/keys.js';
import { credentialFilesOf, readCredentials } from '../../../shared/identity/credential_files.js';
import { joinChannelCredentials, TLS_CHANNEL_OPTIONS } from '../../../shared/identity/grpc_credentials.js';
import {
  type JoinToken,
  joinTokenText,
  newJoinToken,
  parseJoinToken,
  secretDigest,
} from '../../../shared/identity/join_token.js';
import { JoinClient } from '../../../shared/wire/services.js';
import { TestAuthority, TestSource } from '../../certificates.js';
import { type EtcdServer, startEtcd } from '../../etcd_server.js';

let authority: TestAuthority;
let others: TestAuthority;
let etcd: EtcdServer;
let client: EtcdClient;
let tokens: JoinTokens;
let joining: Joining;
let folder = '';
let aheadMs = 0;
let nowMs = 0;
const audited: AuditEntry[] = [];

beforeAll(async () => {
  folder = mkdtempSync(joinPath(tmpdir(), 'lockstep-join-'));
  authority = await TestAuthority.make();
  others = await TestAuthority.make();
  etcd = await startEtcd();
  client = connectEtcd({ endpoints: [etcd.endpoint], prefix: '/join/', callTimeoutMs: 2000 });
  tokens = new JoinTokens(client, () => Date.now() + aheadMs);
  joining = await startJoining({
    credentials: new TestSource(await authority.credentialsOf('coordinator', 'c1')),
    caKey: joinPath(authority.folder, 'ca.key'),
    address: '127.0.0.1:0',
    tokens,
    audit: { record: (entry) => void audited.push(entry), objection: undefined },
    log: { warn: () => Object.create(null) },
    // A second later at each attempt, so that nobody has to wait.
    nowMs: () => (nowMs += 1000),
  });
}, 30_000);
afterEach(() => {
  audited.length = 0;
  aheadMs = 0;
});
afterAll(async () => {
  joining?.close();
  client?.close();
  await etcd?.stop();
  authority.remove();
  others.remove();
  rmSync(folder, { recursive: true });
});

const context = {
  ...{ stdout: process.stdout, write: () => {}, signal: new AbortController().signal, onKill: () => {} },
  ...{ environment: {}, user: undefined, defaultServer: undefined, tlsFolder: undefined },
  ...{ python: 'python3', repository: '' },
};

const server = () => `127.0.0.1:${joining.port}`;

async function tokenFor(worker: string, lifetimeMs = 60_000): Promise<JoinToken> {
  const token = newJoinToken(worker, joining.fingerprint());
  await tokens.add(token, lifetimeMs);
  return token;
}

async function refusalOf(text: string): Promise<object> {
  return join(server(), text).then(
    () => ({ joined: true }),
    (error) => ({ code: error.exitCode, message: error.message }),
  );
}

describe('a token', () => {
  it('gets the certificate of its worker, once', async () => {
    const text = joinTokenText(await tokenFor('w7'));
    const joined = await join(server(), text);
    writeIdentity(joinPath(folder, 'w7'), joined);
    const credentials = readCredentials(credentialFilesOf(joinPath(folder, 'w7')), { role: 'worker', name: 'w7' });
    expect(credentials.ca).toBe(authority.ca);
    expect(await refusalOf(text)).toEqual({
      code: 5,
      message: 'the token is not known: it was used, it has expired, or it never was',
    });
    expect(audited.map(({ call, on, outcome }) => [call, on['worker'], outcome])).toEqual([
      ['Join.Join', 'w7', 'OK'],
      ['Join.Join', 'w7', 'PERMISSION_DENIED'],
    ]);
  });

  it('renews the certificate in the folder of its worker, where the key stays, and touches no other', async () => {
    const dir = joinPath(folder, 'w6');
    const files = credentialFilesOf(dir);
    const run = async (worker: string) => {
      const errors: string[] = [];
      const args = ['--server', server(), '--token', joinTokenText(await tokenFor(worker)), '--dir', dir];
      return { code: await runProgram(context, ['certs', 'join', ...args], (line) => errors.push(line)), errors };
    };
    expect(await run('w6')).toEqual({ code: 0, errors: [] });
    const [key, certificate] = [readFileSync(files.key, 'utf8'), readFileSync(files.certificate, 'utf8')];
    expect(await run('w6')).toEqual({ code: 0, errors: [] });
    expect(readFileSync(files.key, 'utf8')).toBe(key);
    expect(readFileSync(files.certificate, 'utf8')).not.toBe(certificate);
    readCredentials(files, { role: 'worker', name: 'w6' });
    expect(await run('w5')).toEqual({
      code: 2,
      errors: [`${files.certificate}: is there already, and is not that of worker w5`],
    });
  });

  it('is not used up where its certificate could not be kept', async () => {
    const text = joinTokenText(await tokenFor('w5'));
    const taken = joinPath(folder, 'taken');
    mkdirSync(taken);
    writeFileSync(joinPath(taken, 'key.pem'), '');
    writeFileSync(joinPath(folder, 'file'), '');
    for (const dir of [taken, joinPath(folder, 'file', 'w5')]) {
      const args = ['--server', server(), '--token', text, '--dir', dir];
      expect(await runProgram(context, ['certs', 'join', ...args], () => undefined)).toBe(2);
    }
    expect(audited).toEqual([]);
    expect(await join(server(), text)).toMatchObject({ worker: 'w5' });
  });

  it('is used by one of those who try it at the same time', async () => {
    const text = joinTokenText(await tokenFor('w8'));
    const outcomes = await Promise.allSettled([1, 2, 3, 4].map(() => join(server(), text)));
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    expect(audited.filter(({ outcome }) => outcome === 'OK')).toHaveLength(1);
  });

  it('ends by the clock, and then by its lease', async () => {
    const token = await tokenFor('w9', 1_000);
    aheadMs = 1_001;
    expect(await refusalOf(joinTokenText(token))).toEqual({ code: 5, message: 'the token has expired' });
    const kept = async () => (await client.get(joinTokenKey(secretDigest(token)))).entry;
    await expect.poll(kept, { timeout: 10_000, interval: 200 }).toBeUndefined();
  });

  it('is good for no other worker, and stays good for its own', async () => {
    const token = await tokenFor('w1');
    expect(await refusalOf(joinTokenText({ ...token, worker: 'w2' }))).toEqual({
      code: 5,
      message: 'the token is for another worker',
    });
    expect((await join(server(), joinTokenText(token))).worker).toBe('w1');
  });

  it('that was made up is refused', async () => {
    const unknown = newJoinToken('w1', joining.fingerprint());
    expect(await refusalOf(joinTokenText(unknown))).toMatchObject({
      code: 5,
      message: expect.stringMatching(/^the token is not known/),
    });
    expect(await refusalOf('nonsense')).toEqual({ code: 2, message: '--token: that is no join token' });
  });

  it('is shown to no cluster but its own', async () => {
    const stranger = await startJoining({
      credentials: new TestSource(await others.credentialsOf('coordinator', 'c1')),
      caKey: joinPath(others.folder, 'ca.key'),
      address: '127.0.0.1:0',
      tokens,
      audit: { record: (entry) => void audited.push(entry), objection: undefined },
      log: { warn: () => Object.create(null) },
    });
    try {
      const text = joinTokenText(await tokenFor('w1'));
      await expect(join(`127.0.0.1:${stranger.port}`, text)).rejects.toThrow(
        /is not of the cluster that made the token/,
      );
      expect(audited).toEqual([]);
    } finally {
      stranger.close();
    }
  });

  it('is kept as a digest only', async () => {
    const token = await tokenFor('w1');
    const { entries } = await client.list({ kind: 'prefix', prefix: joinTokensFolder });
    const kept = JSON.stringify(entries);
    expect(kept).toContain('"key":"join_tokens/');
    expect(kept).not.toContain(token.secret.toString('base64url'));
    expect(kept).not.toContain(token.secret.toString('hex'));
  });
});

describe('a join that is refused is in the audit log with its reason', () => {
  const entryOf = (on: object, outcome: string, reason: string) => [
    expect.objectContaining({ call: 'Join.Join', who: 'somebody with a token', on, outcome, reason }),
  ];
  const ask = (token: string, request: string, port = joining.port): Promise<unknown> => {
    const client = new JoinClient(`127.0.0.1:${port}`, joinChannelCredentials(authority.ca), TLS_CHANNEL_OPTIONS);
    return new Promise((resolve) => client['join']?.({ token, request }, resolve)).finally(() => client.close());
  };

  it('because no certificate can be made of the request, which leaves the token as it was', async () => {
    const text = joinTokenText(await tokenFor('w3'));
    await ask(text, 'no request');
    const refused = entryOf({ worker: 'w3' }, 'INVALID_ARGUMENT', 'no certificate can be made of this request');
    expect(audited).toEqual(refused);
    expect((await join(server(), text)).worker).toBe('w3');
  });

  it('because it is not to be understood', async () => {
    await ask('t'.repeat(300), '');
    expect(audited).toEqual(entryOf({}, 'INVALID_ARGUMENT', expect.stringContaining('JoinRequest.token')));
    audited.length = 0;
    await ask('no token', '');
    expect(audited).toEqual(entryOf({}, 'PERMISSION_DENIED', 'that is no join token'));
  });

  it('because etcd does not answer, or the audit log is full', async () => {
    const dead = connectEtcd({ endpoints: ['http://127.0.0.1:1'], prefix: '/x/', callTimeoutMs: 200 });
    let objection: string | undefined;
    const helpless = await startJoining({
      credentials: new TestSource(await authority.credentialsOf('coordinator', 'c1')),
      caKey: joinPath(authority.folder, 'ca.key'),
      address: '127.0.0.1:0',
      tokens: new JoinTokens(dead),
      audit: {
        record: (entry) => void audited.push(entry),
        get objection() {
          return objection;
        },
      },
      log: { warn: () => Object.create(null) },
    });
    try {
      const text = joinTokenText(newJoinToken('w4', joining.fingerprint()));
      await ask(text, '', helpless.port);
      expect(audited).toEqual(entryOf({ worker: 'w4' }, 'ABORTED', 'the cluster cannot look at tokens now; try again'));
      audited.length = 0;
      objection = 'it is full';
      await ask(text, '', helpless.port);
      expect(audited).toEqual(entryOf({}, 'RESOURCE_EXHAUSTED', 'it is full'));
    } finally {
      helpless.close();
      dead.close();
    }
  });
});

describe('the port for joining', () => {
  it('needs the key of the authority', async () => {
    const options = {
      credentials: new TestSource(await authority.credentialsOf('coordinator', 'c1')),
      address: '127.0.0.1:0',
      tokens,
      audit: { record: () => undefined, objection: undefined },
      log: { warn: () => Object.create(null) },
    };
    const [wrong, missing] = [joinPath(others.folder, 'ca.key'), joinPath(folder, 'no.key')];
    await expect(startJoining({ ...options, caKey: wrong })).rejects.toThrow(/ca\.key: is not the key of the first/);
    await expect(startJoining({ ...options, caKey: missing })).rejects.toThrow(/no\.key: cannot be read/);
  });

  it('lets so many try and no more, and says of a flood in one line a second', async () => {
    const strict = await startJoining({
      credentials: new TestSource(await authority.credentialsOf('coordinator', 'c1')),
      caKey: joinPath(authority.folder, 'ca.key'),
      address: '127.0.0.1:0',
      tokens,
      audit: { record: (entry) => void audited.push(entry), objection: undefined },
      log: { warn: () => Object.create(null) },
      nowMs: () => 0,
    });
    try {
      const text = joinTokenText(newJoinToken('w1', joining.fingerprint()));
      const tries = Array.from({ length: 12 }, () =>
        join(`127.0.0.1:${strict.port}`, text).catch((error) => error.message),
      );
      const messages = await Promise.all(tries);
      expect(messages.filter((message) => message.includes('too many attempts'))).toHaveLength(2);
      const unseen = () => audited.filter(({ outcome }) => outcome === 'RESOURCE_EXHAUSTED').map(({ on }) => on);
      await expect.poll(unseen, { timeout: 3_000 }).toEqual([{ attempts: '2' }]);
    } finally {
      strict.close();
    }
  });
});

it('texts that are no tokens are not taken for one', () => {
  const token = newJoinToken('w1', joining.fingerprint());
  const text = joinTokenText(token);
  expect(parseJoinToken(text)).toEqual(token);
  for (const bad of ['', `${text}x`, text.slice(1), text.replace('w1', 'w 1'), text.replace('w1', '../w1')]) {
    expect(parseJoinToken(bad)).toBeUndefined();
  }
});
