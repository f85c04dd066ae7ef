/**
 * `npm run bench:chart -- FILE.json ...`: a bar chart of a file of bench:allreduce, bench:train or bench:control, as SVG beside it or in
 * the folder of --out.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { Command } from 'commander';
import { z } from 'zod';
import { chartOf } from './chart/chart_of.js';

const command = new Command('bench:chart')
  .argument('<files...>', 'JSON of bench:allreduce, bench:train or bench:control')
  .option('--out <folder>', 'by default beside each file')
  .parse();
const { out }: { readonly out?: string } = command.opts();
for (const path of command.args) {
  try {
    const target = join(out ?? dirname(path), `${basename(path, '.json')}.svg`);
    writeFileSync(target, chartOf(JSON.parse(readFileSync(path, 'utf8'))));
    process.stdout.write(`${target}\n`);
  } catch (error) {
    const problem = error instanceof z.ZodError ? z.prettifyError(error) : String(error);
    process.stderr.write(`${path}: no chart of this file: ${problem}\n`);
    process.exitCode = 2;
  }
}
