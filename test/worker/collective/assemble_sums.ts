/** `npm run build:wasm`: makes worker/collective/sums_wasm.ts of sums.wat. */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import loadWabt from 'wabt';

/** npm's scripts run in the project's folder. */
const FOLDER = 'worker/collective/';

export async function assembleSums(): Promise<string> {
  const wabt = await loadWabt();
  const module = wabt.parseWat('sums.wat', readFileSync(`${FOLDER}sums.wat`, 'utf8'), { simd: true });
  try {
    return Buffer.from(module.toBinary({}).buffer).toString('base64');
  } finally {
    module.destroy();
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const lines = (await assembleSums()).match(/.{1,100}/g)?.map((line) => `  '${line}',`) ?? [];
  const text = [
    '/** sums.wat as it is run, in base64. Made by `npm run build:wasm`; a test compares the two. */',
    'export const SUMS_WASM = [',
    ...lines,
    "].join('');",
    '',
  ];
  writeFileSync(`${FOLDER}sums_wasm.ts`, text.join('\n'));
}
