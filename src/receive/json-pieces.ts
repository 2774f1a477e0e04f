import { describeError } from '../core/errors.ts';
import { quoteLongIntegers } from '../otlp/json-integers.ts';

/** One document of a request, or a line that is none. */
export type JsonPiece =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly field: string; readonly reason: string };

export type JsonPieces =
  | { readonly ok: true; readonly pieces: Iterable<JsonPiece> }
  | { readonly ok: false; readonly message: string };

/** Content types of one JSON document a line: there is no registered one. */
const LINES = /\b(?:x-)?(?:ndjson|jsonl|jsonlines|json-seq|json-lines)\b/;

export function saysLines(contentType: string): boolean {
  return LINES.test(contentType);
}

/**
 * The documents of a body: one JSON document, or one a line. Lines are known by the content type, or because the first of several is
 * a document by itself, so that `curl -d @file` works without a word about types. Integers that JSON would round are read as text.
 */
export function readJsonPieces(body: Uint8Array, contentType: string): JsonPieces {
  // The decoder leaves out a byte order mark; RFC 7464 puts a record separator before each document.
  const text = new TextDecoder().decode(quoteLongIntegers(body)).replaceAll('\u001e', '\n');
  const first = /^\s*([^\r\n]+)\s*(\S?)/.exec(text);
  if (first === null) return { ok: true, pieces: [] };
  const [, line = '', rest = ''] = first;
  const isLines = rest !== '' && /^[[{]/.test(line) && parse(line).ok;
  if (isLines) return { ok: true, pieces: readLines(text) };
  const whole = parse(text);
  if (whole.ok) return { ok: true, pieces: [whole] };
  if (saysLines(contentType)) return { ok: true, pieces: readLines(text) };
  return { ok: false, message: `the body is not valid JSON: ${whole.reason}` };
}

function* readLines(text: string): Generator<JsonPiece> {
  let number = 0;
  for (let start = 0; start < text.length; ) {
    const found = text.indexOf('\n', start);
    const end = found < 0 ? text.length : found;
    const line = text.slice(start, end).trim();
    start = end + 1;
    number += 1;
    if (line === '') continue;
    const piece = parse(line);
    yield piece.ok ? piece : { ok: false, field: `line ${number}`, reason: `is not valid JSON: ${piece.reason}` };
  }
}

function parse(text: string): JsonPiece {
  try {
    return { ok: true, value: JSON.parse(text) };
  } catch (thrown) {
    return { ok: false, field: 'body', reason: describeError(thrown) };
  }
}
