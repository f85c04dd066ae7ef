import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runProgram } from '../../cli/program.js';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'lockstep-cli-'));
  writeFileSync(join(folder, 'task.py'), '');
  writeFileSync(
    join(folder, 'job.yaml'),
    'version: 1\nname: x\ntask: task.py:Task\nsteps: 2\nbatch: 4\nmicrobatches: 4\nworkers: {min: 3}\n',
  );
  writeFileSync(join(folder, 'bad.yaml'), 'version: 1\nname: x\nbatch: 3\nbatchs: 3\n');
});
afterAll(() => rmSync(folder, { recursive: true }));

async function outcomeOf(
  ...args: readonly string[]
): Promise<{ readonly code: number; readonly errors: readonly string[] }> {
  const errors: string[] = [];
  const context = {
    stdout: process.stdout,
    write: () => {},
    signal: new AbortController().signal,
    onKill: () => {},
    environment: {},
    user: undefined,
    defaultServer: undefined,
    tlsFolder: undefined,
    python: 'python3',
    repository: folder,
  };
  const code = await runProgram(
    context,
    args.map((arg) => arg.replace('{folder}', folder)),
    (line) => errors.push(line),
  );
  return { code, errors };
}

describe('a command line is refused in one line, with exit code 2, for', () => {
  it.each([
    ['an unknown command', ['rnu'], /unknown command 'rnu'.*run/],
    ['an unknown option', ['jobs', '--jsn'], /unknown option '--jsn'/],
    ['a missing argument', ['run'], /missing required argument 'job.yaml'/],
    ['zero workers', ['up', '--workers', '0'], /whole number from 1 to 256/],
    ['too many coordinators', ['up', '--coordinators', '10'], /whole number from 1 to 9/],
    ['a number that is none', ['run', 'x', '--steps', '1e3'], /whole number/],
    ['no server', ['jobs'], /no server is named; give --server host:port or set LOCKSTEP_SERVER/],
    ['a bad server', ['jobs', '--server', 'localhost'], /"localhost" is not host:port/],
    ['a port that there is not', ['jobs', '--server', '127.0.0.1:99999'], /"127\.0\.0\.1:99999" is not host:port/],
    [
      'a bad server to join at',
      ['certs', 'join', '--server', 'c1 7002', '--token', 'x', '--dir', '{folder}/w9'],
      /"c1 7002" is not host:port/,
    ],
    ['a name that is too long', ['job', 'x'.repeat(200), '--server', '127.0.0.1:1'], /^Get\.job: is longer than 128/],
    ['a folder that cannot be made', ['certs', 'init', '{folder}/task.py/certs'], /^ENOTDIR: .*\/task\.py\/certs'$/],
    ['a missing job file', ['run', '{folder}/none.yaml'], /none\.yaml: there is no such file/],
    ['a bad job file', ['run', '{folder}/bad.yaml'], /^bad\.yaml:4: batchs: is not a known key; did you mean batch\?$/],
    ['fewer workers than the job needs', ['run', '{folder}/job.yaml', '--workers', '2'], /the job needs 3 at least/],
    [
      'a repository that is not built',
      ['run', '{folder}/job.yaml', '--workers', '3', '--dir', '{folder}/run'],
      /run: npm run setup/,
    ],
  ])('%s', async (_, args, message) => {
    const { code, errors } = await outcomeOf(...args);
    expect(code).toBe(2);
    expect(errors).toHaveLength(1);
    expect(errors[0]).toMatch(message);
    expect(errors[0]).not.toContain('\n');
  });
});
