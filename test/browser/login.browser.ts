import { join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { nodesOf, repository } from '../system/run_lockstep.js';
import { fitsEverywhere, openBrowser, openPage, tabTo, type WatchedPage } from './browser.js';
import { SharedCluster } from './shared_cluster.js';

const JOB = join(repository, 'test/browser/task/job.yaml');
/** The file of tokens is looked at every 2 s, and who is on an open page every 5 s. */
const OUT_MS = 15_000;

const cluster = new SharedCluster();
const tokens = new Map<string, string>();
let jobOfSue = '';
let jobOfBob = '';
let browser: Browser;
let watched: WatchedPage;
let page: Page;

beforeAll(async () => {
  await cluster.start();
  for (const [name, role] of [
    ['vic', 'viewer'],
    ['sue', 'submitter'],
    ['ada', 'admin'],
  ] as const) {
    tokens.set(name, await cluster.letIn(name, role));
  }
  jobOfSue = await cluster.submitAs('sue', JOB);
  jobOfBob = await cluster.submitAs('bob', JOB);
  browser = await openBrowser();
  watched = await openPage(browser, cluster.dashboard);
  page = watched.page;
});

afterAll(async () => {
  await browser?.close();
  await cluster.close();
});

const button = (name: string) => page.getByRole('button', { name, exact: true });
const heading = (name: string | RegExp) => page.getByRole('heading', { name });
const pressEnter = () => page.keyboard.press('Enter');

async function giveToken(token: string): Promise<void> {
  await heading('Log in').waitFor();
  await page.getByLabel('Your token').fill('');
  await tabTo(page, 'Your token');
  await page.keyboard.insertText(token);
  await pressEnter();
}

async function logInAs(name: string): Promise<void> {
  await giveToken(tokens.get(name) ?? '');
  await page.locator('.visitor', { hasText: name }).waitFor();
}

async function logOut(): Promise<void> {
  await tabTo(page, 'Log out');
  await pressEnter();
  await heading('Log in').waitFor();
}

async function lookAt(hash: string, what: string | RegExp): Promise<void> {
  await page.goto(`${cluster.dashboard}/#/${hash}`);
  await heading(what).first().waitFor();
}

it('a visitor sees the login, wherever he goes, and nothing else', async () => {
  for (const hash of ['jobs', 'nodes', `jobs/${jobOfSue}`]) {
    await lookAt(hash, 'Log in');
    expect(await page.locator('table, canvas, dialog').count()).toBe(0);
    expect(await page.locator('body').textContent()).not.toContain('noisy');
  }
  await fitsEverywhere(page);
});

it('a wrong token is said to be wrong, and can be given anew', async () => {
  await giveToken('lockstep_wrong');
  await page.getByRole('alert').filter({ hasText: 'this token is not known' }).waitFor();
  await fitsEverywhere(page);
  await logInAs('vic');
});

it('a viewer sees all pages, and nothing on them that changes anything', async () => {
  await lookAt('jobs', 'Jobs');
  await page.getByRole('table', { name: 'Jobs' }).waitFor();
  await lookAt('nodes', 'Workers');
  await page.getByRole('table', { name: 'Workers of the cluster' }).waitFor();
  expect(await page.getByRole('button', { name: 'Service' }).count()).toBe(0);
  for (const job of [jobOfSue, jobOfBob]) {
    await lookAt(`jobs/${job}`, /noisy/);
    expect(await button('Cancel job').count()).toBe(0);
  }
});

it('a reload stays logged in, and a logout lasts', async () => {
  await page.reload();
  await heading(/noisy/).waitFor();
  expect(await page.locator('.visitor').textContent()).toContain('vic, viewer');
  await logOut();
  await page.reload();
  await heading('Log in').waitFor();
});

it('a submitter may cancel his own job only, with the keyboard', async () => {
  await logInAs('sue');
  await lookAt('nodes', 'Workers');
  expect(await page.getByRole('button', { name: 'Service' }).count()).toBe(0);
  await lookAt(`jobs/${jobOfBob}`, /noisy/);
  expect(await button('Cancel job').count()).toBe(0);
  await lookAt(`jobs/${jobOfSue}`, /noisy/);
  await page.locator('.job-head .badge.running').waitFor({ timeout: 60_000 });
  await tabTo(page, 'Cancel job');
  await pressEnter();
  await tabTo(page, 'Cancel now');
  await pressEnter();
  await page.locator('.job-head .badge.cancelled').waitFor({ timeout: 20_000 });
  await logOut();
});

it('an admin takes a worker out of service, and back, with the keyboard', async () => {
  await logInAs('ada');
  await lookAt('nodes', 'Workers');
  const row = page.locator('tr', { hasText: 'w1' });
  await row.locator('.badge.training').waitFor({ timeout: 60_000 });
  await tabTo(page, 'Service of w1');
  await pressEnter();
  await heading('w1: in service').waitFor();
  await fitsEverywhere(page);
  await page.setViewportSize({ width: 1280, height: 640 });
  await page.screenshot({ path: join(repository, 'docs', 'screenshots', 'service.png') });
  await page.setViewportSize({ width: 1280, height: 900 });
  await page.keyboard.press('Escape');
  await heading('w1: in service').waitFor({ state: 'hidden' });
  expect((await nodesOf(cluster.api))[0]).toMatchObject({ state: 'training' });
  await pressEnter();
  await tabTo(page, 'Reason, for people');
  await page.keyboard.insertText('new fan');
  await tabTo(page, 'Drain');
  await pressEnter();
  await row.locator('.reason', { hasText: 'cordoned: new fan' }).waitFor({ timeout: 20_000 });
  await expect.poll(async () => (await nodesOf(cluster.api))[0]?.state, { timeout: 60_000 }).toBe('idle');
  await fitsEverywhere(page);
  // The keyboard is where it was before the question.
  await pressEnter();
  await heading('w1: cordoned: new fan').waitFor();
  expect(await button('Drain').count()).toBe(0);
  await tabTo(page, 'Uncordon');
  await pressEnter();
  await row.locator('.reason').waitFor({ state: 'detached', timeout: 20_000 });
  await row.locator('.badge.training').waitFor({ timeout: 60_000 });
});

it('an admin may cancel the job of another', async () => {
  await lookAt(`jobs/${jobOfBob}`, /noisy/);
  await tabTo(page, 'Cancel job');
  await pressEnter();
  await tabTo(page, 'Cancel now');
  await pressEnter();
  await page.locator('.job-head .badge.cancelled').waitFor({ timeout: 20_000 });
});

it('who is taken out of the file of tokens is asked for one again, without a reload', async () => {
  cluster.takeOut('ada');
  await heading('Log in').waitFor({ timeout: OUT_MS });
  expect(await page.locator('.visitor').count()).toBe(0);
  await fitsEverywhere(page);
});

it('all of that is in the audit log, and nothing was asked of another origin', () => {
  expect(cluster.audited()).toEqual([
    'nobody, dashboard log in, REFUSED',
    'viewer vic, dashboard log in, OK',
    'submitter sue, dashboard log in, OK',
    `submitter sue, dashboard cancel, ${jobOfSue}, OK`,
    'admin ada, dashboard log in, OK',
    'admin ada, dashboard drain, w1, new fan, OK',
    'admin ada, dashboard uncordon, w1, OK',
    `admin ada, dashboard cancel, ${jobOfBob}, OK`,
  ]);
  // The browser itself says so of an answer that refuses.
  expect(watched.faults.filter((fault) => !fault.includes('401 (Unauthorized)'))).toEqual([]);
});
