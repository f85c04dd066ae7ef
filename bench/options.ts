/** Values of the benchmarks' options. */
import { InvalidArgumentError } from 'commander';

/** A word that is known. */
export function wordOf<T extends string>(known: readonly T[]): (text: string) => T {
  return (text) => {
    const found = known.find((one) => one === text);
    if (found === undefined) throw new InvalidArgumentError(`${text} is none of ${known.join(', ')}.`);
    return found;
  };
}

/** A list such as "fp32,bf16". */
export function wordsOf<T extends string>(known: readonly T[]): (text: string) => readonly T[] {
  return (text) => text.split(',').map(wordOf(known));
}

/** A whole number from `least` to `most`. */
export function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() !== '' && Number.isInteger(value) && value >= least && value <= most) return value;
    throw new InvalidArgumentError(`${text} is not a whole number from ${least} to ${most}.`);
  };
}

/** A list of such numbers. */
export function wholeNumbers(least: number, most: number): (text: string) => readonly number[] {
  return (text) => text.split(',').map(wholeNumber(least, most));
}

const UNITS: Readonly<Record<string, number>> = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 };

/** Sizes such as "4KiB,25MiB", in bytes. */
export function sizesOf(leastBytes: number, mostBytes: number): (text: string) => readonly number[] {
  return (text) =>
    text.split(',').map((word) => {
      const [, digits, unit = 'B'] = /^(\d+) ?(B|[KMG]iB)?$/.exec(word.trim()) ?? [];
      const bytes = Number(digits) * (UNITS[unit] ?? Number.NaN);
      if (bytes >= leastBytes && bytes <= mostBytes && bytes % 4 === 0) return bytes;
      throw new InvalidArgumentError(
        `${word} is not a size of whole floats from ${sizeText(leastBytes)} to ${sizeText(mostBytes)}.`,
      );
    });
}

export function sizeText(bytes: number): string {
  const [unit, factor] = Object.entries(UNITS).findLast(([, one]) => bytes >= one) ?? ['B', 1];
  return `${Number((bytes / factor).toFixed(2))} ${unit}`;
}
