import type { AuditRecord } from '../core/record.ts';

export { formatDuration } from '../core/duration-text.ts';

/** Terminal colours, or none when the output is not a terminal. */
export interface Paint {
  dim(text: string): string;
  red(text: string): string;
  yellow(text: string): string;
  green(text: string): string;
  bold(text: string): string;
}

export function createPaint(colours: boolean): Paint {
  const paint = (code: number) => (text: string) => (colours ? `\u001b[${code}m${text}\u001b[0m` : text);
  return { dim: paint(2), red: paint(31), yellow: paint(33), green: paint(32), bold: paint(1) };
}

/** C0 but tab and line ends, DEL, C1, and the marks that turn the direction of text or break lines unseen. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this finds
const UNSAFE = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/** Control characters out of evidence must not reach a terminal: they could move the cursor or fake output. One line. */
export function printable(text: string): string {
  return text.replace(/[\t\r\n]/g, ' ').replace(UNSAFE, '\ufffd');
}

/** Raw export on its way to a terminal, without what could steer it. */
export async function* printableChunks(chunks: AsyncIterable<Uint8Array>): AsyncIterable<string> {
  const decoder = new TextDecoder();
  for await (const chunk of chunks) yield decoder.decode(chunk, { stream: true }).replace(UNSAFE, '\ufffd');
}

/** One JSON document on a line; the same value, with what could steer a terminal written as escapes. */
export function jsonLine(value: unknown): string {
  const escaped = (letter: string) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, '0')}`;
  return `${JSON.stringify(value).replace(UNSAFE, escaped)}\n`;
}

/** Characters of a query shown before and after the mistake in it. */
const AROUND_CHARS = 60;

/** The query, or the part of it around `column` (from 1), and a caret under that column. */
export function caretLines(text: string, column: number): string[] {
  const query = printable(text);
  const from = Math.max(0, column - 1 - AROUND_CHARS);
  const to = column - 1 + AROUND_CHARS;
  const start = `${from > 0 ? '…' : ''}${query.slice(from, column - 1)}`;
  const rest = `${query.slice(column - 1, to)}${to < query.length ? '…' : ''}`;
  return [`  ${start}${rest}`, `  ${' '.repeat([...start].length)}^`];
}

export function verdict(record: AuditRecord, paint: Paint): string {
  if (record.audit.decision === 'deny') return paint.red('refused');
  if (record.event.outcome === 'failure') return paint.yellow('failed ');
  if (record.event.outcome === 'success') return paint.green('ok     ');
  return paint.dim('unknown');
}

/** Digits of the record id shown in lists: `show` takes them. */
export const SHORT_ID_LENGTH = 12;

/** One record on one line: when, verdict, sentence, id. */
export function sentenceLine(record: AuditRecord, paint: Paint): string {
  const when = record['@timestamp'].slice(0, 23).replace('T', ' ');
  const inner = record.audit.entry ? '' : '  ↳ ';
  const id = record.event.id.slice(0, SHORT_ID_LENGTH);
  return `${paint.dim(when)}  ${verdict(record, paint)}  ${inner}${printable(record.message)}  ${paint.dim(id)}`;
}
