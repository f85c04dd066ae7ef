import { setTimeout as delay } from 'node:timers/promises';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Cluster, startCluster, submit } from '../system/cluster.js';
import { exampleJob } from '../system/run_lockstep.js';
import { openBrowser } from './browser.js';

/** Longer than the lease of a coordinator. */
const FROZEN_MS = 6_000;

let cluster: Cluster;
let browser: Browser;

beforeAll(async () => {
  cluster = await startCluster(2, ['--coordinators', '2']);
  browser = await openBrowser();
});

afterAll(async () => {
  await browser?.close();
  await cluster?.lockstep.close();
});

it('a page whose coordinator leads no more goes to the one that does, and shows the job that goes on', async () => {
  const job = await submit(cluster, exampleJob('char_gpt'), 'gpt');
  const page = await browser.newPage();
  await page.goto(`${cluster.dashboard}/#/jobs/${job}`);
  const step = page.locator('.stat', { hasText: 'Step of' }).locator('dd');
  const steps = async () => Number.parseInt((await step.textContent()) ?? '', 10);
  await expect.poll(steps, { timeout: 120_000 }).toBeGreaterThan(5);
  const leader = /^c(\d) leads/.exec((await page.locator('.who').textContent()) ?? '')?.[1];
  const frozen = cluster.coordinators[Number(leader) - 1] ?? 0;
  process.kill(frozen, 'SIGSTOP');
  await delay(FROZEN_MS);
  process.kill(frozen, 'SIGCONT');
  await page.waitForURL((url) => url.origin !== cluster.dashboard && url.hash === `#/jobs/${job}`, { timeout: 60_000 });
  await page.locator('.live.live').waitFor({ timeout: 30_000 });
  await page.getByRole('heading', { name: 'char-gpt' }).waitFor({ timeout: 30_000 });
  const before = await steps();
  await expect.poll(steps, { timeout: 120_000 }).toBeGreaterThan(before);
  await page.locator('.timeline rect.presence').first().waitFor();
});
