/** Debian's Chromium, and what must never be seen in it: errors, and requests to anywhere else. */
import { existsSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { type Browser, chromium, type Page } from 'playwright-core';
import { expect } from 'vitest';
import { z } from 'zod';

const CHROMIUM = '/usr/bin/chromium';
const WIDTHS = [400, 800, 1280, 2000];
/** More than there are things on any page of the tests that the keyboard reaches. */
const MOST_TABS = 60;

export async function openBrowser(): Promise<Browser> {
  if (!existsSync(CHROMIUM)) throw new Error(`${CHROMIUM} is missing; run: npm run test:dashboard`);
  // Without a sandbox of its own: tests may run as root, and open only our own pages.
  return chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox', '--disable-gpu'] });
}

export interface WatchedPage {
  readonly page: Page;
  /** Errors in the console and of scripts, and requests that went elsewhere. */
  readonly faults: string[];
}

/** `origin`: the only one that may be asked. */
export async function openPage(browser: Browser, origin: string): Promise<WatchedPage> {
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 }, colorScheme: 'light' });
  const faults: string[] = [];
  const asked = (url: string) => {
    if (new URL(url.replace(/^ws/, 'http')).origin !== origin) faults.push(`asked ${url}`);
  };
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') faults.push(message.text());
  });
  page.on('pageerror', (error) => faults.push(String(error)));
  page.on('request', (request) => asked(request.url()));
  page.on('websocket', (socket) => asked(socket.url()));
  return { page, faults };
}

/** Elements that stick out of the window, though nothing around them scrolls. */
const OVERFLOWING = `(() => {
  const scrolls = (element) => element !== null &&
    (['auto', 'scroll', 'hidden'].includes(getComputedStyle(element).overflowX) || scrolls(element.parentElement));
  const outside = [...document.body.querySelectorAll('*')].filter(
    (element) => element.getBoundingClientRect().right > innerWidth + 1 && !scrolls(element));
  const names = outside.map((element) => element.tagName + '.' + element.className);
  return document.documentElement.scrollWidth > innerWidth ? ['the page', ...names] : names;
})()`;

function overflowing(page: Page): Promise<unknown> {
  return page.evaluate(OVERFLOWING);
}

/** Nothing sticks out, at any width, in light and dark. Leaves the page as openPage has made it. */
export async function fitsEverywhere(page: Page): Promise<void> {
  for (const colorScheme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme });
    for (const width of WIDTHS) {
      await page.setViewportSize({ width, height: 900 });
      await delay(200);
      expect(await overflowing(page), `${width} px, ${colorScheme}`).toEqual([]);
    }
  }
  await page.emulateMedia({ colorScheme: 'light' });
  await page.setViewportSize({ width: 1280, height: 900 });
}

/** Pixels of the first chart that are of the colour of its curve: nothing is drawn where there are none. */
const CURVE_PIXELS = `(() => {
  const canvas = document.querySelector('canvas');
  const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  let pixels = 0;
  for (let at = 0; at < data.length; at += 4) if (data[at + 3] > 100 && data[at + 2] - data[at] > 60) pixels += 1;
  return pixels;
})()`;

export async function curvePixels(page: Page): Promise<number> {
  return Number(await page.evaluate(CURVE_PIXELS));
}

/** The step, or the time, that the first chart says is at its left edge. */
async function leftEdge(page: Page): Promise<number> {
  const plot = page.locator('.u-over').first();
  const { width = 0, height = 0 } = (await plot.boundingBox()) ?? {};
  await plot.hover({ position: { x: width * 0.02, y: height / 2 } });
  await delay(200);
  return Number((await page.locator('.u-legend .u-value').first().textContent())?.replaceAll(',', ''));
}

/** Draws the right half of the first chart nearer, and says what is at its left edge before, after a while, and when all is shown again. */
export async function lookNearer(page: Page, waitMs: number): Promise<readonly number[]> {
  const plot = page.locator('.u-over').first();
  const before = await leftEdge(page);
  const { x = 0, y = 0, width = 0, height = 0 } = (await plot.boundingBox()) ?? {};
  await page.mouse.move(x + width / 2, y + height / 2);
  await page.mouse.down();
  await page.mouse.move(x + width * 0.9, y + height / 2, { steps: 5 });
  await page.mouse.up();
  await delay(waitMs);
  const near = await leftEdge(page);
  await plot.dblclick();
  return [before, near, await leftEdge(page)];
}

const FOCUSED = `(() => {
  const element = document.activeElement;
  if (element === null || element === document.body) return null;
  const name = element.getAttribute('aria-label') ?? element.labels?.[0]?.textContent ?? element.textContent;
  return { name: name.trim(), seen: getComputedStyle(element).outlineStyle !== 'none' };
})()`;

const focusedElement = z.object({ name: z.string(), seen: z.boolean() }).nullable();

/** What the keyboard is at: its name, and whether one can see that it is there. */
export async function focused(page: Page): Promise<{ readonly name: string; readonly seen: boolean }> {
  return focusedElement.parse(await page.evaluate(FOCUSED)) ?? { name: '', seen: true };
}

/** Goes on with the tabulator until the keyboard is at what has this name, which one must see. */
export async function tabTo(page: Page, name: string): Promise<void> {
  const names: string[] = [];
  for (let presses = 0; presses < MOST_TABS; presses++) {
    await page.keyboard.press('Tab');
    const at = await focused(page);
    names.push(at.name);
    if (at.name !== name) continue;
    expect(at.seen, name).toBe(true);
    return;
  }
  throw new Error(`the keyboard does not reach ${name}: ${names.join(', ')}`);
}
