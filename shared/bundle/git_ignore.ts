/** Which files of a folder do not travel: what its .gitignore files say, those of the folders in it included, and what never does. */
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import ignore, { type Ignore } from 'ignore';
import { BundleError } from './bundle_error.js';

/** Folders of tools, wherever they lie. */
const NEVER: ReadonlySet<string> = new Set(['.git', '__pycache__', 'node_modules']);
const MAX_RULES_BYTES = 1024 * 1024;

/** The rules of one .gitignore; they apply to what lies below its folder. */
interface Level {
  /** Of the folder, relative to the whole; empty, or with a slash at its end. */
  readonly prefix: string;
  readonly rules: Ignore;
}

export class GitIgnore {
  private constructor(private readonly levels: readonly Level[]) {}

  /** `folder` is absolute. */
  static at(folder: string): GitIgnore {
    return new GitIgnore([]).below(folder, '');
  }

  /** With the rules of the .gitignore in a folder further down, if it has one. `prefix` is its relative name with a slash at its end. */
  below(folder: string, prefix: string): GitIgnore {
    const text = rulesIn(folder);
    if (text === undefined) return this;
    return new GitIgnore([...this.levels, { prefix, rules: ignore({ ignorecase: false }).add(text) }]);
  }

  /** `name` is relative, and that of a folder has a slash at its end. As in git, the deepest .gitignore that says something decides. */
  leavesOut(name: string): boolean {
    const own = name.replace(/\/$/, '').split('/').at(-1) ?? '';
    if (NEVER.has(own)) return true;
    let ignored = false;
    for (const { prefix, rules } of this.levels) {
      const said = rules.test(name.slice(prefix.length));
      if (said.ignored) ignored = true;
      else if (said.unignored) ignored = false;
    }
    return ignored;
  }
}

function rulesIn(folder: string): string | undefined {
  const path = join(folder, '.gitignore');
  if (statSync(path, { throwIfNoEntry: false })?.isFile() !== true) return undefined;
  const text = readFileSync(path, 'utf8');
  if (text.length > MAX_RULES_BYTES)
    throw new BundleError(`${path} is larger than ${MAX_RULES_BYTES / 1024 / 1024} MiB`);
  return text;
}
