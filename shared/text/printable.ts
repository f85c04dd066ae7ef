/** Text that came from elsewhere, made safe for a terminal: no escape sequences, no control characters. */

/** CSI and OSC sequences, and the other escapes of two or three characters. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters to be removed.
const ESCAPES = /\u001b\[[0-?]*[ -/]*[@-~]|\u001b\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|\u001b[ -/]*[0-~]/g;
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters to be shown as a mark.
const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g;

/** One line. */
export function printable(text: string): string {
  return printableLines(text).replaceAll('\n', ' ');
}

/** As many lines as there were. */
export function printableLines(text: string): string {
  return text.replace(ESCAPES, '').replace(/\r\n?/g, '\n').replace(CONTROLS, '\ufffd');
}
