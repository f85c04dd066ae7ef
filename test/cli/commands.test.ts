/** Every command that asks a cluster, against one real cluster: what it prints, with and without --json, and how it ends. */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { examples } from '../../cli/examples.js';
import { runProgram } from '../../cli/program.js';
import { type Cluster, startCluster } from '../system/cluster.js';
import { jobFolder, ownTask } from '../system/job_folder.js';
import { repository, TEST_MS } from '../system/run_lockstep.js';

const folder = mkdtempSync(join(tmpdir(), 'lockstep-commands-'));
const jobs = jobFolder(join(folder, 'job'), [ownTask('line')]);
const good = { task: 'line.py:Line', batch: 12, microbatches: 4 };
let cluster: Cluster;
/** A job that has finished. */
let done = '';

interface Outcome {
  readonly code: number;
  readonly out: string;
  readonly errors: readonly string[];
}

interface AskOptions {
  readonly signal?: AbortSignal;
  readonly server?: string;
  /** A terminal of this size. */
  readonly terminal?: { readonly rows: number; readonly columns: number };
}

/** Runs a command line in this process, with LOCKSTEP_SERVER set. */
async function ask(args: readonly string[], options: AskOptions = {}): Promise<Outcome> {
  const errors: string[] = [];
  let out = '';
  const context = {
    stdout: Object.assign(Object.create(process.stdout), {
      isTTY: options.terminal !== undefined,
      ...options.terminal,
    }),
    write: (text: string) => {
      out += text;
    },
    signal: options.signal ?? new AbortController().signal,
    onKill: () => {},
    environment: process.env,
    user: undefined,
    defaultServer: options.server ?? cluster.api,
    tlsFolder: undefined,
    python: readFileSync(join(repository, 'dist/.python'), 'utf8').trim(),
    repository,
  };
  const code = await runProgram(context, args, (line) => errors.push(line));
  return { code, out, errors };
}

const object = z.looseObject({});
function objects(out: string) {
  return out
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => object.parse(JSON.parse(line)));
}

function places(name: string): readonly string[] {
  return ['--output', join(folder, 'models', name, 'model')];
}

beforeAll(async () => {
  cluster = await startCluster(2);
  const path = jobs({ ...good, name: 'done', steps: 5 });
  const { out } = await ask(['submit', path, ...places('done')]);
  done = out.trim();
  expect((await ask(['watch', done])).code).toBe(0);
}, TEST_MS);
afterAll(async () => {
  await cluster?.lockstep.close();
  rmSync(folder, { recursive: true });
});

/** Each waits for as long as a request is tried again. */
describe.concurrent('where nobody answers', () => {
  const nobody = { server: '127.0.0.1:1' };

  it.each([['jobs'], ['nodes'], ['usage'], ['top', '--once']])('%s ends with 4', async (...command) => {
    const { code, errors } = await ask(command, nobody);
    expect(code).toBe(4);
    expect(errors).toEqual([expect.stringMatching(/^127\.0\.0\.1:1: no coordinator answers .*check --server$/)]);
  });

  it('doctor says in one line each what is wrong and what to do, and ends with 1', async () => {
    const { code, out } = await ask(['doctor', '--for', 'submitter'], nobody);
    expect(code).toBe(1);
    expect(out).toMatch(
      /^ok {4}node +Node\.js \S+\nfail {2}coordinator +127\.0\.0\.1:1: no coordinator answers.*; check --server[^\n]*\n$/,
    );
  });
});

describe('every command', () => {
  it('has help with an example', async () => {
    const help = execFileSync(process.execPath, [join(repository, 'bin/lockstep'), '--help']).toString();
    const names = [...help.matchAll(/^ {2}([a-z]+) /gm)]
      .map(([, name]) => name ?? '')
      .filter((name) => name !== 'help');
    expect(names.length).toBeGreaterThan(15);
    for (const name of names)
      expect(examples[name], name).toContain(`lockstep ${name === 'completion' ? '' : name}`.trim());
    const one = execFileSync(process.execPath, [join(repository, 'bin/lockstep'), 'clone', '--help']).toString();
    expect(one).toContain('Example:\n  lockstep clone');
  });

  it.each([['job'], ['watch'], ['logs'], ['events'], ['cancel'], ['checkpoints'], ['audit'], ['resume'], ['clone']])(
    '%s of a job that is not there ends with 3 and one line',
    async (command) => {
      const { code, out, errors } = await ask([command, 'nobody']);
      expect({ code, out, errors }).toEqual({ code: 3, out: '', errors: ['there is no job "nobody"'] });
    },
  );

  it('ends with 130 when it is interrupted', async () => {
    const stopped = new AbortController();
    const watching = ask(['top', '--json'], { signal: stopped.signal });
    await delay(300);
    stopped.abort();
    expect(await watching).toMatchObject({ code: 130, errors: ['interrupted'] });
  });
});

describe('submit', () => {
  it('--dry-run shows the plan and submits nothing', async () => {
    const before = (await ask(['jobs', '--json'])).out;
    const path = jobs({ ...good, name: 'plan', steps: 7 });
    const { code, out } = await ask(['submit', path, '--dry-run', '--set', 'checkpoint.every=3']);
    expect(code).toBe(0);
    expect(out).toContain('7 steps');
    expect(out).toContain('12 samples in 4 microbatches of 3');
    expect(out).toMatch(/workers +1 to 4; 2 are there, 2 of them idle/);
    expect(out).toMatch(/w1 +0 to 1 +2 *\nw2 +2 to 3 +2/);
    expect(out).toMatch(/saved +every 3 steps and every 10 minutes to .*checkpoints/);
    expect(out).toMatch(/\d+ files, .* packed .*sha256 [0-9a-f]{64}/);
    expect(out).toMatch(/line\.py +[\d.]+ k?B/);
    expect(out).toMatch(/nothing was submitted\n$/);
    expect((await ask(['jobs', '--json'])).out).toBe(before);
  });

  it('--dry-run --json is one object', async () => {
    const path = jobs({ ...good, name: 'plan', steps: 7 });
    const { code, out } = await ask(['submit', path, '--dry-run', '--json']);
    expect(code).toBe(0);
    expect(objects(out)).toEqual([
      expect.objectContaining({
        ...{ event: 'plan', name: 'plan', steps: 7, samples_per_step: 12, microbatches: 4 },
        blocks: [
          { worker: 'w1', lo: 0, length: 2 },
          { worker: 'w2', lo: 2, length: 2 },
        ],
        code: expect.objectContaining({
          files: expect.arrayContaining([{ name: 'line.py', bytes: expect.any(Number) }]),
        }),
      }),
    ]);
  });

  it('--dry-run needs no server', async () => {
    const path = jobs({ ...good, name: 'plan', steps: 7 });
    const { code, out } = await ask(['submit', path, '--dry-run'], { server: '' });
    expect(code).toBe(0);
    expect(out).toContain('no server was named');
  });

  it('refuses a bad change with 2, one line, and nothing else', async () => {
    const path = jobs({ ...good, name: 'bad', steps: 7 });
    const outcome = await ask(['submit', path, '--set', 'data.tail=cut']);
    expect(outcome).toEqual({ code: 2, out: '', errors: ['--set: data.tail: must be drop or keep'] });
  });

  it('--watch --json tells the id and then the whole course, and ends as the job does', async () => {
    const path = jobs({ ...good, name: 'watched', steps: 3 });
    const { code, out } = await ask(['submit', path, '--watch', '--json', ...places('watched'), '--set', 'steps=2']);
    expect(code).toBe(0);
    const told = objects(out);
    expect(told[0]).toMatchObject({ event: 'submitted', name: 'watched' });
    expect(told.at(-1)).toMatchObject({ event: 'job_finished', state: 'finished', steps: 2, job: told[0]?.['job'] });
  });

  it('--watch ends with 1 when the job fails', async () => {
    const path = jobs({ ...good, name: 'failing', steps: 3, task: 'line.py:Lime' });
    const { code, out } = await ask(['submit', path, '--watch', ...places('failing')]);
    expect(code).toBe(1);
    expect(out).toMatch(/failed after 0 steps: import failed/);
  });
});

describe('clone', () => {
  it('submits the same spec and code again, with what is changed', async () => {
    const { code, out } = await ask(['clone', 'done', '--set', 'seed=9', '--set', 'steps=2', ...places('c'), '--json']);
    expect(code).toBe(0);
    const [told] = objects(out);
    expect(told).toMatchObject({ event: 'submitted', name: 'done', cloned_from: done });
    const id = String(told?.['job']);
    expect((await ask(['watch', id])).code).toBe(0);
    const [original, cloned] = [
      objects((await ask(['job', done, '--json'])).out)[0],
      objects((await ask(['job', id, '--json'])).out)[0],
    ];
    expect(cloned).toMatchObject({ state: 'finished', committed: 2, bundle: original?.['bundle'] });
    expect(cloned?.['spec']).toEqual({ ...object.parse(original?.['spec']), seed: 9, steps: 2 });
  });

  it('refuses a change that does not fit, and submits nothing', async () => {
    const { code, errors } = await ask(['clone', done, '--set', 'batch=13']);
    expect(code).toBe(2);
    expect(errors).toEqual([expect.stringMatching(/microbatches: must divide batch/)]);
  });
});

describe('resume', () => {
  it('--watch follows the new job, and ends as it does', async () => {
    const path = jobs({ ...good, name: 'resumed', steps: 1_000_000, params: { pause: 0.02 } });
    const { out } = await ask(['submit', path, ...places('resumed')]);
    const job = out.trim();
    await cluster.lockstep.until(
      'steps to save',
      async () => Number(objects((await ask(['job', job, '--json'])).out)[0]?.['committed']) > 2 || undefined,
    );
    expect((await ask(['cancel', job, '--checkpoint'])).code).toBe(0);
    const watched = ask(['resume', job, '--watch', '--json']);
    const running = await cluster.lockstep.until('the new job', async () =>
      objects((await ask(['jobs', '--json'])).out).find(({ state, name }) => state === 'running' && name === 'resumed'),
    );
    expect((await ask(['cancel', String(running['job'])])).code).toBe(0);
    const { code, out: course } = await watched;
    expect(code).toBe(1);
    expect(objects(course)[0]).toEqual({ event: 'submitted', job: running['job'], resumed_from: job });
    expect(objects(course).at(-1)).toMatchObject({ event: 'job_finished', state: 'cancelled' });
  });
});

describe('what there is to see', () => {
  it('jobs, job and audit', async () => {
    expect((await ask(['jobs'])).out).toMatch(new RegExp(`${done} +done +\\S+ +finished +5/5`));
    expect(objects((await ask(['jobs', '--json'])).out)).toContainEqual(
      expect.objectContaining({ job: done, committed: 5 }),
    );
    expect((await ask(['job', done])).out).toMatch(/^code +sha256:[0-9a-f]{64}$/m);
    expect(objects((await ask(['audit', done, '--json'])).out)).toEqual([
      { event: 'audit', job: done, samples_lost: 0, samples_repeated: 0, steps: 5 },
    ]);
    expect((await ask(['audit', done])).out).toBe('5 steps, samples lost 0, samples repeated 0\n');
  });

  it('nodes and checkpoints', async () => {
    expect((await ask(['nodes'])).out).toMatch(/^worker .*\nw1 .*\nw2 /);
    expect(objects((await ask(['nodes', '--json'])).out)).toMatchObject([{ worker: 'w1' }, { worker: 'w2' }]);
    expect((await ask(['checkpoints', done, '--json'])).code).toBe(0);
  });

  it('cordon, drain and uncordon', async () => {
    expect(await ask(['cordon', 'w2', '--reason', 'new fan'])).toMatchObject({
      code: 0,
      out: 'w2 gets no new work: new fan\n',
    });
    expect((await ask(['nodes'])).out).toMatch(/^w2 .*cordoned: new fan$/m);
    expect(objects((await ask(['drain', 'w2', '--json'])).out)).toMatchObject([
      { worker: 'w2', job: '', cordoned: 'by an operator' },
    ]);
    expect(await ask(['uncordon', 'w2'])).toMatchObject({ code: 0, out: 'w2 gets work again\n' });
    expect(objects((await ask(['nodes', '--json'])).out)).toMatchObject([{ cordoned: '' }, { cordoned: '' }]);
    expect((await ask(['cordon', 'w2', '--reason', 'a \u001b[31mred fan'])).out).toBe(
      'w2 gets no new work: a red fan\n',
    );
    expect((await ask(['uncordon', 'w2'])).code).toBe(0);
    const missing = await ask(['cordon', 'w9']);
    expect(missing).toMatchObject({ code: 3, errors: [expect.stringContaining('there is no worker w9')] });
    expect((await ask(['drain', 'w2', '--deadline', 'soon'])).code).toBe(2);
  });

  it('events, from a sequence number on', async () => {
    const all = objects((await ask(['events', done, '--json'])).out);
    expect(all.map((event) => event['event'])).toContain('job_finished');
    const last = Number(all.at(-1)?.['sequence']);
    expect(objects((await ask(['events', done, '--json', '--from', String(last)])).out)).toEqual([all.at(-1)]);
    expect((await ask(['events', done])).out).toMatch(/finished after 5 steps/);
  });

  it('cancel of a job that has ended says how it ended', async () => {
    expect(await ask(['cancel', done])).toMatchObject({ code: 0, out: `${done} is finished\n` });
    expect(objects((await ask(['cancel', done, '--json'])).out)).toMatchObject([{ job: done, state: 'finished' }]);
  });

  it('watch of a job that runs ends with 124 when time is up', async () => {
    const path = jobs({ ...good, name: 'long', steps: 1_000_000, params: { pause: 0.05 } });
    const { out } = await ask(['submit', path, ...places('long')]);
    const late = await ask(['watch', out.trim(), '--timeout', '1']);
    expect(late).toMatchObject({ code: 124, errors: ['not done within 1 s'] });
    expect(await ask(['cancel', out.trim()])).toMatchObject({ code: 0 });
  });
});

describe('logs', () => {
  let printed = '';
  beforeAll(async () => {
    const chatty = join(folder, 'chatty');
    const path = jobFolder(chatty, [ownTask('line')])({ ...good, name: 'chatty', task: 'chatty.py:Chatty', steps: 6 });
    const lines = [
      'import line',
      'class Chatty(line.Line):',
      '    def lr(self, step):',
      '        print("step", step)',
      '        return 0.1',
    ];
    writeFileSync(join(chatty, 'chatty.py'), `${lines.join('\n')}\n`);
    const { code, out } = await ask(['submit', path, '--watch', '--json', ...places('chatty')]);
    expect(code).toBe(0);
    printed = String(objects(out)[0]?.['job']);
    // The last lines come a moment after the end.
    await cluster.lockstep.until(
      'all prints',
      async () => (await ask(['logs', printed])).out.split('\n').length === 13 || undefined,
    );
  }, TEST_MS);

  const texts = (out: string) => objects(out).map((entry) => entry['text']);

  it('of all workers, or of one', async () => {
    const all = objects((await ask(['logs', printed, '--json'])).out);
    expect(new Set(all.map((entry) => entry['worker']))).toEqual(new Set(['w1', 'w2']));
    const own = objects((await ask(['logs', printed, '--json', '--worker', 'w2'])).out);
    expect(own).toEqual(all.filter((entry) => entry['worker'] === 'w2'));
    expect((await ask(['logs', printed, '--worker', 'w2'])).out).toContain('[w2] step 5\n');
  });

  it('as JSON say where each line comes from', async () => {
    const [first] = objects((await ask(['logs', printed, '--json', '--worker', 'w2'])).out);
    expect(first).toEqual({
      time_ms: expect.any(Number),
      ...{ job: printed, worker: 'w2', attempt: 1, generation: 1, step: expect.any(Number) },
      ...{ stream: 'stdout', text: 'step 0' },
    });
  });

  it('hold what was printed just before a method raised', async () => {
    const raising = join(folder, 'raising');
    const path = jobFolder(raising, [ownTask('line')])({
      ...good,
      name: 'raising',
      task: 'raising.py:Raising',
      steps: 6,
    });
    const lines = [
      'import line',
      'class Raising(line.Line):',
      '    def optimizer(self, model):',
      '        print("the last words")',
      '        raise ValueError("no optimizer")',
    ];
    writeFileSync(join(raising, 'raising.py'), `${lines.join('\n')}\n`);
    const { code, out } = await ask(['submit', path, '--watch', ...places('raising')]);
    expect(code).toBe(1);
    const [, worker] = /optimizer failed on (w\d)/.exec(out) ?? [];
    const said = out.indexOf(`[${worker}] the last words\n`);
    expect(said).toBeGreaterThanOrEqual(0);
    expect(said).toBeLessThan(out.indexOf('failed after 0 steps'));
  });

  it('of one attempt', async () => {
    const all = (await ask(['logs', printed])).out;
    expect(await ask(['logs', 'chatty', '--attempt', '1'])).toEqual({ code: 0, out: all, errors: [] });
    expect((await ask(['logs', printed, '--attempt', '0'])).code).toBe(2);
  });

  it('that there cannot be end with 3, and say what there is', async () => {
    expect(await ask(['logs', printed, '--worker', 'nobody'])).toEqual({
      ...{ code: 3, out: '' },
      errors: [`job ${printed} was never given to worker nobody: it was given to w1, w2`],
    });
    expect(await ask(['logs', printed, '--worker', 'w1', '--attempt', '2', '-f'])).toEqual({
      ...{ code: 3, out: '' },
      errors: [`worker w1 has not made attempt 2 of job ${printed}: there were 1`],
    });
  });

  it('from the newest lines on', async () => {
    const own = texts((await ask(['logs', printed, '--json', '--worker', 'w1'])).out);
    expect(texts((await ask(['logs', printed, '--json', '--worker', 'w1', '--tail', '2'])).out)).toEqual(own.slice(-2));
    expect((await ask(['logs', printed, '--tail', '0'])).out).toBe('');
    expect(texts((await ask(['logs', printed, '--json', '--tail', '1000', '-f'])).out)).toHaveLength(2 * own.length);
  });
});

describe('top', () => {
  it('shows jobs and workers once where there is no terminal', async () => {
    const { code, out } = await ask(['top']);
    expect(code).toBe(0);
    expect(out).toMatch(/^jobs: 0 running, 0 queued, \d+ ended {3}workers: 2, \d idle\n/);
    expect(out).toMatch(/finished +########## {2}5\/5|finished/);
    expect(out).not.toContain('\u001b');
  });

  it('draws each look over the one before, cut to the terminal, and leaves the terminal as it was', async () => {
    const stopped = new AbortController();
    const terminal = { rows: 5, columns: 30 };
    const shown = ask(['top', '--interval', '1'], { signal: stopped.signal, terminal });
    await delay(1500);
    stopped.abort();
    const { code, out } = await shown;
    expect(code).toBe(130);
    expect(out.startsWith('\u001b[?1049h')).toBe(true);
    // A line of wide characters must not go on in the next.
    expect(out.indexOf('\u001b[?7l')).toBeLessThan(out.indexOf('jobs: '));
    expect(out.indexOf('\u001b[?7l')).toBeGreaterThan(0);
    expect(out.lastIndexOf('\u001b[?7h')).toBeGreaterThan(out.lastIndexOf('jobs: '));
    expect(out.endsWith('\u001b[?1049l')).toBe(true);
    const looks = out.split('\u001b[H').slice(1);
    expect(looks.length).toBeGreaterThan(1);
    const lines = (looks[0] ?? '').split('\u001b[K\n').slice(0, -1);
    expect(lines).toHaveLength(4);
    expect(Math.max(...lines.map((line) => line.length))).toBe(30);
  });

  it('--once --json is one object', async () => {
    const told = objects((await ask(['top', '--once', '--json'])).out);
    expect(told).toEqual([
      {
        ...{ event: 'top', time_ms: expect.any(Number), jobs: expect.any(Array), nodes: expect.any(Array) },
        usage: expect.objectContaining({ worker_seconds: expect.any(Number) }),
      },
    ]);
  });
});

describe('usage', () => {
  it('says where the time of the workers went: all of it, and to whom', async () => {
    const [told, ...others] = objects((await ask(['usage', '--json'])).out);
    expect(others).toEqual([]);
    const seconds = z.record(z.string(), z.number()).parse(told?.['jobs']);
    const { worker_seconds: ofJobs, queued_seconds: _, ...classes } = seconds;
    const sum = Object.values(classes).reduce((total, one) => total + one, 0);
    expect(classes['compute_seconds']).toBeGreaterThan(0);
    expect(sum).toBeCloseTo(ofJobs ?? 0, 6);
    const unused = ['idle_seconds', 'cordoned_seconds', 'quarantined_seconds', 'leaving_seconds'];
    const all = unused.reduce((total, name) => total + Number(told?.[name]), ofJobs ?? 0);
    expect(all).toBeCloseTo(Number(told?.['worker_seconds']), 6);
    // Two workers, since the leader began; they came a moment later.
    const passed = (2 * (Number(told?.['time_ms']) - Number(told?.['since_ms']))) / 1000;
    expect(all).toBeLessThanOrEqual(passed + 1);
    expect(all).toBeGreaterThan(passed / 2);
    expect(told).toMatchObject({ event: 'usage', users: [{ user: expect.any(String) }], price_per_worker_hour: 0 });
  });

  it('shows it as tables', async () => {
    const { code, out } = await ask(['usage']);
    expect(code).toBe(0);
    expect(out).toMatch(/^since {6}20.*\nworkers {4}0\.\d+ worker-hours\n/);
    expect(out).toMatch(/\nidle +0\.\d+ +\d+\.\d %/);
    expect(out).toMatch(/\nuser +hours lately\n/);
  });
});

describe('doctor', () => {
  const etcdUrl = (): string =>
    /endpoints:\s+- (\S+)/.exec(readFileSync(join(cluster.lockstep.folder, 'run/w1.yaml'), 'utf8'))?.[1] ?? '';

  it('finds this machine fit, the cluster there, and the clocks equal', async () => {
    const { code, out } = await ask(['doctor', '--json', '--etcd', etcdUrl()]);
    const found = objects(out);
    expect(found.filter(({ status }) => status === 'fail')).toEqual([]);
    expect(code).toBe(0);
    for (const check of [
      'node',
      'memory',
      'shared memory',
      'open files',
      'python',
      'torch',
      'gpu',
      'memory files',
      'etcd',
    ]) {
      expect(found.map((one) => one['check'])).toContain(check);
    }
    expect(found).toContainEqual(expect.objectContaining({ check: 'coordinator', status: 'ok' }));
    expect(found).toContainEqual(expect.objectContaining({ check: 'clock', status: 'ok' }));
  });

  it('checks what a configuration names', async () => {
    const bad = join(folder, 'bad.yaml');
    writeFileSync(
      bad,
      'name: w1\netcd: {endpoints: ["http://127.0.0.1:1"]}\nlisten: 127.0.0.1:1\npython: /no/python\n',
    );
    const found = objects((await ask(['doctor', '--json', '--config', bad], { server: '' })).out);
    const failed = found.filter(({ status }) => status === 'fail').map((one) => one['check']);
    expect(failed).toEqual(expect.arrayContaining(['python', 'etcd']));
    const missing = await ask(['doctor', '--config', join(folder, 'none.yaml')], { server: '' });
    expect(missing.out).toMatch(/fail {2}configuration .*none\.yaml: cannot be read/);
  });
});

describe('completion', () => {
  it('offers the jobs and workers of the cluster, and nothing where nobody answers', async () => {
    expect((await ask(['__complete', 'lockstep job do'])).out).toBe('done\tjob\n');
    expect((await ask(['__complete', `lockstep job ${done.slice(0, 4)}`])).out).toContain(`${done}\tdone, finished\n`);
    expect((await ask(['__complete', 'lockstep logs x --worker '])).out).toMatch(/^w1\t.*\nw2\t/);
    const startedMs = performance.now();
    expect(await ask(['__complete', 'lockstep job '], { server: '127.0.0.1:1' })).toMatchObject({ code: 0, out: '' });
    expect(performance.now() - startedMs).toBeLessThan(3000);
    expect((await ask(['__complete', 'lockstep run '])).out).toBe(':files\n');
  });

  it('refuses a shell that it does not know', async () => {
    expect(await ask(['completion', 'tcsh'])).toMatchObject({
      code: 2,
      errors: [expect.stringMatching(/bash, zsh, fish/)],
    });
  });

  it('works in a real bash, whose user presses Tab', () => {
    const typed = [`lockstep can\t${done.slice(0, 6)}\t`, 'lockstep up --wor\t', `lockstep run ${folder}/job/don\t`];
    const lines = completedInBash(typed);
    expect(lines).toEqual([
      `lockstep cancel ${done} `,
      'lockstep up --workers ',
      `lockstep run ${folder}/job/done.yaml `,
    ]);
  });
});

/** What each line has become when an interactive bash in a terminal has completed it. */
function completedInBash(typed: readonly string[]): readonly string[] {
  const home = join(folder, 'home');
  mkdirSync(join(home, 'bin'), { recursive: true });
  // The command only writes down what it was given, so the line is seen as bash has it.
  const entered = join(home, 'entered');
  writeFileSync(
    join(home, 'rc'),
    [
      'PS1="$ "',
      'source <(lockstep completion bash)',
      // Ctrl-T puts the line away as it is.
      `__keep() { printf '%s\\n' "$READLINE_LINE" >> ${entered}; READLINE_LINE=; }`,
      `bind -x '"\\C-t": __keep'`,
      '',
    ].join('\n'),
  );
  const driver = `
import os, pty, select, sys, time
DEADLINE_S, QUIET_S = 20, 0.3
pid, terminal = pty.fork()
if pid == 0:
    os.execvp("bash", ["bash", "--noprofile", "--rcfile", sys.argv[1], "-i"])
def hear(seconds):
    return os.read(terminal, 65536) if select.select([terminal], [], [], seconds)[0] else b""
def settle():
    # Something is shown, and then nothing more.
    hear(DEADLINE_S)
    while hear(QUIET_S):
        pass
def kept():
    return open(sys.argv[2], "rb").read().count(b"\\n") if os.path.exists(sys.argv[2]) else 0
settle()
for line in sys.argv[3:]:
    for part in line.split("\\t")[:-1]:
        os.write(terminal, part.encode())
        settle()
        os.write(terminal, b"\\t")
        settle()
    lines, end = kept(), time.monotonic() + DEADLINE_S
    os.write(terminal, b"\\x14")
    while kept() == lines and time.monotonic() < end:
        hear(0.05)
os.write(terminal, b"exit\\n")
os.close(terminal)
os.waitpid(pid, 0)
`;
  const path = `${join(repository, 'bin')}:${process.env['PATH'] ?? ''}`;
  const { status, stderr } = spawnSync('python3', ['-c', driver, join(home, 'rc'), entered, ...typed], {
    env: { ...process.env, PATH: path, HOME: home, LOCKSTEP_SERVER: cluster.api, TERM: 'dumb' },
    timeout: 60_000,
  });
  if (status !== 0) throw new Error(stderr.toString());
  return existsSync(entered) ? readFileSync(entered, 'utf8').replace(/\n$/, '').split('\n') : [dirname(entered)];
}
