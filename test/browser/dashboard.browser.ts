import { mkdirSync } from 'node:fs';
import { availableParallelism, totalmem } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Cluster, startCluster, submit } from '../system/cluster.js';
import { exampleJob, repository, runToEnd } from '../system/run_lockstep.js';
import {
  curvePixels,
  fitsEverywhere,
  focused,
  lookNearer,
  openBrowser,
  openPage,
  type WatchedPage,
} from './browser.js';

const SCREENSHOTS = join(repository, 'docs', 'screenshots');
const SHOWN_MS = 1_000;

let cluster: Cluster;
let browser: Browser;
let watched: WatchedPage;
let page: Page;
let job = '';

beforeAll(async () => {
  mkdirSync(SCREENSHOTS, { recursive: true });
  cluster = await startCluster(3);
  browser = await openBrowser();
  watched = await openPage(browser, cluster.dashboard);
  page = watched.page;
});

afterAll(async () => {
  await browser?.close();
  await cluster?.lockstep.close();
});

/** Steps that the figure on the page says are committed. */
async function stepsShown(): Promise<number> {
  const text = (await page.locator('.stat', { hasText: 'Step of' }).locator('dd').textContent()) ?? '';
  return Number(text.split(/\s/, 1)[0]?.replaceAll(',', ''));
}

async function untilSteps(steps: number): Promise<void> {
  await expect.poll(stepsShown, { timeout: 120_000, interval: 100 }).toBeGreaterThanOrEqual(steps);
}

/** Points that the loss chart says that it draws. */
async function lossPoints(): Promise<number> {
  const label = await page.locator('.chart').first().getAttribute('aria-label');
  return Number(/(\d+) points/.exec(label ?? '')?.[1] ?? 0);
}

it('an empty cluster says what to do', async () => {
  await page.goto(cluster.dashboard);
  await page.getByText('lockstep submit').waitFor();
  expect(await page.getByRole('status').textContent()).toBe('Live');
  await fitsEverywhere(page);
});

it('a submitted job appears by itself, and its loss grows while it trains', async () => {
  job = await submit(cluster, exampleJob('char_gpt'), 'gpt');
  await page.getByRole('link', { name: 'char-gpt' }).click();
  await untilSteps(10);
  const points = await lossPoints();
  await untilSteps(points + 10);
  expect(await lossPoints()).toBeGreaterThanOrEqual(points + 10);
  expect(await curvePixels(page)).toBeGreaterThan(200);
});

it('what is drawn nearer stays so while the job trains on', async () => {
  const points = await lossPoints();
  const [before = 0, near = 0, all = 0] = await lookNearer(page, 2 * SHOWN_MS);
  expect(await lossPoints()).toBeGreaterThan(points);
  expect(near).toBeGreaterThan(before + points / 4);
  expect(all).toBeLessThan(near);
});

it('the parts of a step are shown, and add up to no more than the step', async () => {
  const chart = page.locator('.chart[aria-label^="Time of a step"]');
  // Milliseconds as the chart says them of the newest step: of all of it, and of each part.
  const times = async (): Promise<Readonly<Record<string, number>>> => {
    const label = (await chart.getAttribute('aria-label')) ?? '';
    const step = Number(/now ([\d.]+) ms:/.exec(label)?.[1]);
    const parts = [...label.matchAll(/(\w+) ([\d.]+) ms/g)].map(([, name = '', ms]) => [name, Number(ms)]);
    return { ...Object.fromEntries(parts), step };
  };
  await expect.poll(async () => (await times())['gather'], { timeout: 20_000 }).toBeGreaterThan(0);
  const { data = 0, compute = 0, reduce = -1, gather = -1, apply = 0, step = 0 } = await times();
  console.log('the newest step, in ms:', { data, compute, reduce, gather, apply, step });
  for (const part of [data, compute, apply]) expect(part).toBeGreaterThan(0);
  expect(data).toBeLessThan(compute);
  expect(Math.min(reduce, gather)).toBeGreaterThanOrEqual(0);
  // Each is rounded to two digits.
  expect(data + compute + reduce + gather + apply).toBeLessThan(1.1 * step);
  const legend = await chart.locator('.u-legend .u-label').allTextContents();
  expect(legend).toEqual(['step', 'rest', 'apply', 'gather', 'reduce', 'compute', 'data']);
});

it('the workers are shown with the cores and the memory that they use', async () => {
  const table = page.getByRole('table', { name: 'Workers of this job' });
  const head = (await table.locator('thead th').allTextContents()).map((text) => text.trim());
  const cellOf = (column: string) =>
    table.locator('tbody tr', { hasText: 'w1' }).locator('th, td').nth(head.indexOf(column));
  const cores = async (): Promise<number> =>
    Number(/^([\d.]+) of/.exec((await cellOf('Cores memory').textContent()) ?? '')?.[1]);
  await expect.poll(cores, { timeout: 20_000 }).toBeGreaterThan(0);
  expect(await cores()).toBeLessThanOrEqual(availableParallelism());
  // PyTorch alone takes more than 100 MB.
  const memory = (await cellOf('Cores memory').locator('.below').textContent()) ?? '';
  const [, amount, unit = ''] = /^([\d.]+) (MB|GB)$/.exec(memory) ?? [];
  const megabytes = Number(amount) * (unit === 'GB' ? 1000 : 1);
  expect(megabytes).toBeGreaterThan(100);
  expect(megabytes).toBeLessThan(totalmem() / 1e6);
  expect(await cellOf('Host memory').locator('.below').textContent()).toMatch(/^[\d.]+( MB)? of [\d.]+ GB$/);
});

it('a killed worker shows within a second', async () => {
  const killed = page.locator('tr.gone', { hasText: 'w2' });
  const startMs = performance.now();
  process.kill(cluster.workers.get('w2') ?? 0, 'SIGKILL');
  await killed.waitFor({ timeout: 10_000 });
  const tookMs = performance.now() - startMs;
  console.log(`a killed worker showed after ${Math.round(tookMs)} ms`);
  expect(tookMs).toBeLessThan(SHOWN_MS);
  await page.locator('.timeline .lost circle').first().waitFor();
  // It is started again, and joins.
  await killed.waitFor({ state: 'detached', timeout: 60_000 });
  await page.locator('td.what', { hasText: 'recovered' }).first().waitFor();
});

it('nothing sticks out of the window, at any width, in light and dark', async () => {
  await untilSteps(90);
  await fitsEverywhere(page);
  await page.setViewportSize({ width: 1280, height: 1100 });
  await delay(300);
  await page.screenshot({ path: join(SCREENSHOTS, 'job.png') });
  await page.emulateMedia({ colorScheme: 'dark' });
  await page.setViewportSize({ width: 400, height: 900 });
  await delay(300);
  await page.screenshot({ path: join(SCREENSHOTS, 'job_narrow_dark.png') });
  await page.emulateMedia({ colorScheme: 'light' });
  await page.setViewportSize({ width: 1280, height: 900 });
});

it('a reload shows what was there, and goes on', async () => {
  const steps = await stepsShown();
  await page.reload();
  await untilSteps(steps + 5);
  expect(await lossPoints()).toBeGreaterThanOrEqual(steps);
  expect(await page.locator('.timeline g.lost').count()).toBe(1);
});

it('the keyboard reaches everything that can be done, and one sees where it is', async () => {
  await page.reload();
  await page.getByRole('button', { name: 'Cancel job' }).waitFor();
  const reached: string[] = [];
  for (let presses = 0; presses < 16; presses++) {
    await page.keyboard.press('Tab');
    const { name, seen } = await focused(page);
    expect(seen, name).toBe(true);
    reached.push(name);
  }
  for (const name of ['Skip to the content', 'Jobs', 'Workers', 'Cancel job', 'Time', 'Log', 'More']) {
    expect(reached).toContain(name);
  }
});

it('what a task prints is shown as text, whatever it is', async () => {
  const noisy = await submit(cluster, join(repository, 'test/browser/task/job.yaml'), 'noisy');
  await page.goto(`${cluster.dashboard}/#/jobs/${noisy}`);
  // It waits for the workers of the first.
  const { end } = await runToEnd(['cancel', job, '--json', '--server', cluster.api]);
  expect(end.code).toBe(0);
  const log = page.getByRole('log');
  await log.getByText('<script>').first().waitFor({ timeout: 120_000 });
  await log.getByText('red').first().waitFor();
  const shown = await log.textContent();
  for (const left of ['\u001b', '\u0007', '\u202e', '[31m', '0;title']) expect(shown).not.toContain(left);
  expect(await log.locator('img, script').count()).toBe(0);
  expect(await page.title()).toBe('noisy – Lockstep');
  await page.getByRole('table', { name: 'Checkpoints' }).waitFor({ timeout: 120_000 });
  await fitsEverywhere(page);
});

it('a job is cancelled after a question, and only then', async () => {
  await page.getByRole('button', { name: 'Cancel job' }).click();
  await page.getByRole('button', { name: 'Keep it' }).click();
  await untilSteps((await stepsShown()) + 2);
  await page.getByRole('button', { name: 'Cancel job' }).click();
  await page.getByRole('button', { name: 'Cancel now' }).click();
  await page.locator('.job-head .badge.cancelled').waitFor({ timeout: 20_000 });
  expect(await page.getByRole('button', { name: 'Cancel job' }).count()).toBe(0);
});

it('the lists of workers and jobs fit, too', async () => {
  await page.goto(`${cluster.dashboard}/#/nodes`);
  await page.getByRole('table', { name: 'Workers of the cluster' }).waitFor();
  await fitsEverywhere(page);
  await submit(cluster, exampleJob('fashion_mnist'), 'mnist');
  await submit(cluster, exampleJob('char_gpt'), 'gpt2');
  await page.goto(`${cluster.dashboard}/#/jobs`);
  const running = page.locator('tr', { hasText: 'fashion-mnist' });
  await expect.poll(() => running.textContent(), { timeout: 120_000 }).toMatch(/[1-9]\d \/ /);
  await fitsEverywhere(page);
  await page.setViewportSize({ width: 1280, height: 460 });
  await delay(300);
  await page.screenshot({ path: join(SCREENSHOTS, 'jobs.png') });
});

it('nothing was asked of another origin, and no error was in the console', () => {
  expect(watched.faults).toEqual([]);
});

it('a page that loses its coordinator says so, and goes on by itself', async () => {
  process.kill(cluster.coordinators[0] ?? 0, 'SIGKILL');
  await page.getByText('reconnecting').waitFor({ timeout: 10_000 });
  await page.locator('.live.live').waitFor({ timeout: 60_000 });
  await page.locator('.badge.running').first().waitFor({ timeout: 60_000 });
});
