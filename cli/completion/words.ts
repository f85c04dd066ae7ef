/** The words of a command line up to the cursor, as a shell would split it: blanks, quotes and backslashes, and no more than that. */
export function wordsOf(line: string): readonly string[] {
  const words: string[] = [];
  let word = '';
  let inWord = false;
  let quote = '';
  for (let i = 0; i < line.length; i++) {
    const letter = line[i] ?? '';
    if (quote !== '') {
      if (letter === quote) quote = '';
      else word += letter;
    } else if (letter === '"' || letter === "'") {
      quote = letter;
      inWord = true;
    } else if (letter === '\\') {
      i += 1;
      word += line[i] ?? '';
      inWord = true;
    } else if (/\s/.test(letter)) {
      if (inWord) words.push(word);
      word = '';
      inWord = false;
    } else {
      word += letter;
      inWord = true;
    }
  }
  // The one that the cursor is in, or a new one after a blank.
  return [...words, word];
}
