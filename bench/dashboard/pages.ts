/** A process with pages that look at a dashboard. It is told over its channel what to do, and ends with the benchmark. */
import { type PagesNews, type PagesOrder, pagesOrder } from './messages.js';
import { Page } from './page.js';

let pages: readonly Page[] = [];

const say = (news: PagesNews): void => void process.send?.(news);

async function open({ url, pages: count, jobs }: Extract<PagesOrder, { kind: 'open' }>): Promise<void> {
  pages = Array.from({ length: count }, (_, index) => new Page(url, jobs[index % jobs.length] ?? ''));
  await Promise.all(pages.map((page) => page.shown));
  say({ kind: 'opened' });
}

function close(): void {
  const sum = (of: (page: Page) => number): number => pages.reduce((total, page) => total + of(page), 0);
  say({
    kind: 'closed',
    messages: sum((page) => page.messages),
    bytes: sum((page) => page.bytes),
    missed: sum((page) => page.missed),
    silentMs: Math.max(0, ...pages.map((page) => page.silentMs)),
    lost: pages.filter((page) => page.lost).length,
  });
  for (const page of pages) page.close();
  pages = [];
}

process.on('message', (message) => {
  const order = pagesOrder.parse(message);
  if (order.kind === 'open') void open(order);
  else close();
});
process.on('disconnect', () => process.exit(0));
