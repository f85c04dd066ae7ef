import { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import { candidatesFor, FILES, type KnownNames } from '../../cli/completion/candidates.js';
import { completionScript, SHELLS } from '../../cli/completion/scripts.js';
import { wordsOf } from '../../cli/completion/words.js';

describe('a line is split as a shell splits it', () => {
  it.each([
    ['lockstep', ['lockstep']],
    ['lockstep ', ['lockstep', '']],
    ['lockstep  job  ', ['lockstep', 'job', '']],
    ['lockstep job ab', ['lockstep', 'job', 'ab']],
    ['lockstep --server 10.0.0.1:7400 j', ['lockstep', '--server', '10.0.0.1:7400', 'j']],
    ['lockstep "a b" c', ['lockstep', 'a b', 'c']],
    ["lockstep 'a b", ['lockstep', 'a b']],
    ['lockstep a\\ b', ['lockstep', 'a b']],
    ['lockstep "" x', ['lockstep', '', 'x']],
  ])('%s', (line, words) => {
    expect(wordsOf(line)).toEqual(words);
  });
});

function program(): Command {
  const made = new Command('lockstep');
  made.command('jobs').description('list the jobs').option('--json');
  made.command('job <job>').option('--server <host:port>').option('-f, --follow').option('--worker <name>');
  made.command('run <job.yaml>').option('--dir <folder>').option('--steps <n>');
  const certs = made.command('certs');
  certs.command('worker <name>').option('--dir <folder>');
  certs.command('show <file>');
  made.command('secret', { hidden: true });
  return made;
}

const asked: (string | undefined)[] = [];
const known: KnownNames = {
  jobs: async (server) => {
    asked.push(server);
    return ['gpt', 'gauss', 'k3v9'].map((value) => ({ value, description: '' }));
  },
  workers: async () => ['w1', 'w2'].map((value) => ({ value, description: '' })),
};

async function values(...words: readonly string[]) {
  const found = await candidatesFor(program(), words, known);
  return found === FILES ? FILES : found.map(({ value }) => value);
}

describe('what can come next', () => {
  it.each([
    ['a command', ['j'], ['jobs', 'job']],
    ['no hidden command', ['s'], []],
    ['a job', ['job', 'g'], ['gpt', 'gauss']],
    ['a job after an option', ['job', '--follow', ''], ['gpt', 'gauss', 'k3v9']],
    ['an option', ['job', '--f'], ['--follow']],
    ['options when all is given', ['job', 'gpt', ''], ['--server', '--follow', '--worker', '--help']],
    ['a worker', ['job', 'gpt', '--worker', ''], ['w1', 'w2']],
    ['a file for a job file', ['run', ''], FILES],
    ['a folder', ['run', 'x.yaml', '--dir', ''], FILES],
    ['nothing for a number', ['run', 'x.yaml', '--steps', ''], []],
    ['a command below a command', ['certs', ''], ['worker', 'show', 'help']],
    ['an option below a command', ['certs', 'worker', '--d'], ['--dir']],
    ['nothing after an unknown command', ['rnu', ''], []],
  ])('is %s', async (_, words, expected) => {
    expect(await values(...words)).toEqual(expected);
  });

  it('is asked of the server that the line names', async () => {
    await values('job', '--server', 'a:1', '');
    await values('job', '--server=b:2', '');
    expect(asked.slice(-2)).toEqual(['a:1', 'b:2']);
  });
});

it.each(SHELLS)('the script for %s asks the hidden command', (shell) => {
  expect(completionScript(shell)).toContain('__complete');
});
