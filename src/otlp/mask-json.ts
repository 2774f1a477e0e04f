import { fill } from './mask-text.ts';

const QUOTE = 0x22;
const COLON = 0x3a;
const BACKSLASH = 0x5c;
const ZERO = 0x30;
const SPACE = 0x20;
const OPENING_BRACE = 0x7b;
const COMMA = 0x2c;

/** Longer names are none. */
const NAME_BYTES_MAX = 128;

/** What stands further on in an object is not looked at for secret members, nor are those of an object inside it of the same name. */
const MEMBERS_BYTES_MAX = 1024;

/** Masks the text of one value. */
type MaskValue = (text: Buffer) => boolean;

/** How the value of a name is to be masked; undefined for not at all. */
export type MaskOf = (nameStart: number, nameEnd: number) => MaskValue | { readonly members: MaskOf } | undefined;

/**
 * Masks values of secret names in JSON, also where it stands in a longer text, is cut short, or is a string inside JSON (its
 * quotes have backslashes then). `maskOf` says how the value of a name is to be masked, or that the names in the object that
 * is its value are secret besides. Texts become `*`, numbers 0, lists and objects empty, all in as many bytes: JSON stays
 * JSON. Returns whether anything was masked.
 */
export function maskJson(text: Buffer, maskOf: MaskOf): boolean {
  let masked = false;
  let walkedTo = 0;
  for (let colon = text.indexOf(COLON); colon >= 0; colon = text.indexOf(COLON, colon + 1)) {
    const close = skipSpace(text, colon - 1, -1);
    if (text[close] !== QUOTE) continue;
    const level = backslashesBefore(text, close);
    const nameEnd = close - level;
    const first = Math.max(0, nameEnd - NAME_BYTES_MAX);
    let nameStart = nameEnd;
    while (nameStart > first && text[nameStart - 1] !== QUOTE) nameStart--;
    const maskValue = text[nameStart - 1] === QUOTE ? maskOf(nameStart, nameEnd) : undefined;
    if (maskValue === undefined) continue;
    const valueStart = skipSpace(text, colon + 1, 1);
    if (typeof maskValue === 'object') {
      if (valueStart < walkedTo) continue;
      const walk = maskMembers(text, valueStart, level, maskValue.members);
      walkedTo = walk.end;
      masked = walk.masked || masked;
      continue;
    }
    const end = valueEnd(text, valueStart);
    masked = maskRange(text, valueStart, end, maskValue) || masked;
    colon = end - 1;
  }
  return masked;
}

/** Masks values of the object that begins here, not of those inside it, as long as it reads like JSON. */
function maskMembers(
  text: Buffer,
  start: number,
  level: number,
  maskOf: MaskOf,
): { readonly masked: boolean; readonly end: number } {
  const short = text.subarray(0, start + MEMBERS_BYTES_MAX);
  let masked = false;
  let at = start;
  for (let expected = OPENING_BRACE; short[at] === expected; expected = COMMA) {
    const open = skipSpace(short, at + 1, 1) + level;
    if (short[open] !== QUOTE || backslashesBefore(short, open) !== level) break;
    const close = closingQuote(short, open, level);
    const colon = skipSpace(short, close + 1, 1);
    if (short[colon] !== COLON) break;
    const valueStart = skipSpace(short, colon + 1, 1);
    const end = valueEnd(short, valueStart);
    const maskValue = maskOf(open + 1, close - level);
    if (typeof maskValue === 'function') masked = maskRange(short, valueStart, end, maskValue) || masked;
    at = skipSpace(short, end, 1);
  }
  return { masked, end: at };
}

function skipSpace(text: Buffer, from: number, step: 1 | -1): number {
  let at = from;
  while ((text[at] ?? 0xff) <= SPACE) at += step;
  return at;
}

function backslashesBefore(text: Buffer, end: number): number {
  let at = end;
  while (at > 0 && text[at - 1] === BACKSLASH) at--;
  return end - at;
}

/** The quote that opens the value which begins here; -1 when it is no text. */
function openingQuote(text: Buffer, start: number): number {
  let at = start;
  while (text[at] === BACKSLASH) at++;
  return text[at] === QUOTE ? at : -1;
}

/** The quote that ends the text which the quote at `open` begins, or the end of all. */
function closingQuote(text: Buffer, open: number, level: number): number {
  for (let at = text.indexOf(QUOTE, open + 1); at >= 0; at = text.indexOf(QUOTE, at + 1)) {
    const backslashes = Math.min(backslashesBefore(text, at), at - open - 1);
    if (level === 0 ? backslashes % 2 === 0 : backslashes === level) return at;
  }
  return text.length;
}

const OPENING = /[{[]/;
const CLOSING = /[}\]]/;
const END = /[\s,}\]"\\]/;

/** Exclusive end of the value that starts here: a text with its quotes, a list or object, or up to what follows. */
function valueEnd(text: Buffer, start: number): number {
  let depth = 0;
  let at = start;
  while (at < text.length) {
    let quote = at;
    while (text[quote] === BACKSLASH) quote++;
    if (text[quote] === QUOTE) at = Math.min(closingQuote(text, quote, quote - at) + 1, text.length);
    else {
      const character = String.fromCharCode(text[quote] ?? SPACE);
      if (depth === 0 && (quote > at || END.test(character))) return at;
      if (OPENING.test(character)) depth++;
      else if (CLOSING.test(character)) depth--;
      at = quote + 1;
      if (!CLOSING.test(character)) continue;
    }
    if (depth === 0) return Math.min(at, text.length);
  }
  return text.length;
}

function maskRange(text: Buffer, start: number, end: number, maskValue: MaskValue): boolean {
  const open = openingQuote(text, start);
  const first = text[start] ?? 0;
  if (open >= 0 && open < end) {
    const level = open - start;
    const isClosed = end - 1 > open && text[end - 1] === QUOTE;
    return maskValue(text.subarray(open + 1, isClosed ? Math.max(open + 1, end - 1 - level) : end));
  }
  if (OPENING.test(String.fromCharCode(first))) {
    const isClosed = CLOSING.test(String.fromCharCode(text[end - 1] as number));
    if (!isClosed) return fill(text, start + 1, end);
    text.fill(SPACE, start + 1, end - 1);
    return end - start > 2;
  }
  const isNumber = first === 0x2d || (first >= ZERO && first <= 0x39);
  if (!isNumber) return false;
  text.fill(SPACE, start, end);
  text[start] = ZERO;
  return true;
}
