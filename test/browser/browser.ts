/** Debian's Chromium, and what must never be seen in it: errors, and requests to anywhere else. */
import { existsSync } from 'node:fs';
import { type Browser, chromium, type Page } from 'playwright-core';

const CHROMIUM = '/usr/bin/chromium';

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

export function overflowing(page: Page): Promise<unknown> {
  return page.evaluate(OVERFLOWING);
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

/** What the keyboard is at: its text, and whether one can see that it is there. */
export async function focused(page: Page): Promise<{ readonly text: string; readonly seen: boolean }> {
  const element = page.locator(':focus').first();
  if ((await element.count()) === 0) return { text: '', seen: true };
  const text = (await element.textContent()) ?? '';
  return { text: text.trim(), seen: (await element.evaluate('e => getComputedStyle(e).outlineStyle')) !== 'none' };
}
