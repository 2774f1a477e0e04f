import type { Pattern } from './ast.ts';

/** Longest duration: 63 bits. */
const DURATION_NS_MAX = 9_223_372_036_854_775_807n;

/** Longest letter run; longer ones are split, as Lucene's letter tokenizer does (CharTokenizer, UTF-16 units). */
const LETTER_RUN_MAX = 255;

/**
 * The letter runs of a text in lower case: what `message` is searched by. The same tokens as Elasticsearch's built-in
 * `simple` analyzer: each code point is lowered by itself (no final sigma, `İ` becomes `i`).
 */
export function letterRuns(text: string): string[] {
  const runs: string[] = [];
  for (const [run] of text.matchAll(/\p{L}+/gu)) {
    let token = '';
    for (const letter of run) {
      token += String.fromCodePoint(letter.toLowerCase().codePointAt(0) ?? 0);
      if (token.length >= LETTER_RUN_MAX) {
        runs.push(token);
        token = '';
      }
    }
    if (token) runs.push(token);
  }
  return runs;
}

/** Letter runs with blanks between and around them, so that "in a row" is a substring test. Empty for no letters. */
export function letterLine(text: string): string {
  const runs = letterRuns(text);
  return runs.length === 0 ? '' : ` ${runs.join(' ')} `;
}

/** Does the whole text fit the pattern? Case-sensitive; `*` stands for any characters, none included. */
export function fitsPattern(text: string, pattern: Pattern): boolean {
  const first = pattern[0] ?? '';
  const last = pattern.at(-1) ?? '';
  if (text.length < first.length + last.length || !text.startsWith(first) || !text.endsWith(last)) return false;
  const end = text.length - last.length;
  let at = first.length;
  for (const piece of pattern.slice(1, -1)) {
    const found = text.indexOf(piece, at);
    if (found < 0 || found + piece.length > end) return false;
    at = found + piece.length;
  }
  return true;
}

/** Order of texts by code point: that of their UTF-8 bytes, which Elasticsearch and DuckDB sort by. */
export function compareText(left: string, right: string): number {
  const length = Math.min(left.length, right.length);
  for (let index = 0; index < length; index++) {
    const a = left.charCodeAt(index);
    const b = right.charCodeAt(index);
    if (a === b) continue;
    // Surrogates stand for code points above all other UTF-16 units.
    const aHigh = a >= 0xd800 && a <= 0xdfff;
    const bHigh = b >= 0xd800 && b <= 0xdfff;
    return aHigh === bHigh ? a - b : aHigh ? 1 : -1;
  }
  return left.length - right.length;
}

const DURATION_UNIT_NS: Readonly<Record<string, bigint>> = {
  '': 1n,
  ns: 1n,
  us: 1_000n,
  µs: 1_000n,
  ms: 1_000_000n,
  s: 1_000_000_000n,
  m: 60_000_000_000n,
  h: 3_600_000_000_000n,
  d: 86_400_000_000_000n,
  w: 604_800_000_000_000n,
};

/** Nanoseconds of `1500` (nanoseconds), `41ms`, `1.5s`, `3m`, `1h`; undefined when it is no duration or beyond 63 bits. */
export function parseDuration(text: string): bigint | undefined {
  const match = /^(\d{1,19})(?:\.(\d{1,9}))?([a-zµ]{0,2})$/.exec(text);
  const unitNs = DURATION_UNIT_NS[match?.[3] ?? '?'];
  if (!match || unitNs === undefined) return undefined;
  const fraction = match[2] ?? '';
  const durationNs =
    BigInt(match[1] ?? '') * unitNs + (BigInt(fraction || '0') * unitNs) / 10n ** BigInt(fraction.length);
  return durationNs <= DURATION_NS_MAX ? durationNs : undefined;
}

/**
 * A 128-bit key of an IPv4 or IPv6 address as 32 hex digits, IPv4 in its IPv6-mapped form: text order is address order.
 * Undefined when the text is no address (zone ids are none).
 */
export function ipKey(text: string): string | undefined {
  if (text.length > 45) return undefined;
  const dotted = /^(.*?)((?:\d{1,3}\.){3}\d{1,3})$/.exec(text);
  let rest = text;
  let tail: string[] = [];
  if (dotted) {
    const bytes = (dotted[2] ?? '').split('.');
    if (bytes.some((byte) => Number(byte) > 255 || (byte.length > 1 && byte.startsWith('0')))) return undefined;
    const hex = bytes.map((byte) => Number(byte).toString(16).padStart(2, '0')).join('');
    if (dotted[1] === '') return `00000000000000000000ffff${hex}`;
    rest = dotted[1] ?? '';
    tail = [hex.slice(0, 4), hex.slice(4)];
    if (!rest.endsWith(':')) return undefined;
    if (!rest.endsWith('::')) rest = rest.slice(0, -1);
  }
  const halves = rest.split('::');
  if (halves.length > 2) return undefined;
  const groups = halves.map((half) => (half === '' ? [] : half.split(':')));
  const head = groups[0] ?? [];
  const end = [...(groups[1] ?? []), ...tail];
  const missing = 8 - head.length - end.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined;
  const all = [...head, ...Array.from({ length: missing }, () => '0'), ...end];
  if (!all.every((group) => /^[0-9a-f]{1,4}$/i.test(group))) return undefined;
  return all.map((group) => group.toLowerCase().padStart(4, '0')).join('');
}

/** The canonical text of a 128-bit key: dotted for IPv4 (mapped too), RFC 5952 for IPv6. */
export function ipText(key: string): string {
  if (key.startsWith('00000000000000000000ffff')) {
    return [24, 26, 28, 30].map((at) => Number.parseInt(key.slice(at, at + 2), 16)).join('.');
  }
  const groups = Array.from({ length: 8 }, (_, index) =>
    Number.parseInt(key.slice(index * 4, index * 4 + 4), 16).toString(16),
  );
  let best = { at: -1, length: 1 };
  for (let at = 0; at < 8; at++) {
    let length = 0;
    while (groups[at + length] === '0') length++;
    if (length > best.length) best = { at, length };
  }
  if (best.at < 0) return groups.join(':');
  return `${groups.slice(0, best.at).join(':')}::${groups.slice(best.at + best.length).join(':')}`;
}

/** First and last address of `10.0.0.0/8` (host bits may be set); undefined when it is no network. */
export function parseNetwork(text: string): { first: string; last: string } | undefined {
  const match = /^([^/]+)\/(\d{1,3})$/.exec(text);
  const key = ipKey(match?.[1] ?? '');
  if (!match || key === undefined) return undefined;
  const isV4 = !(match[1] ?? '').includes(':');
  const bits = Number(match[2]) + (isV4 ? 96 : 0);
  if (bits > 128) return undefined;
  const hostBits = BigInt(128 - bits);
  const first = (BigInt(`0x${key}`) >> hostBits) << hostBits;
  const last = first | ((1n << hostBits) - 1n);
  return { first: ipText(toKey(first)), last: ipText(toKey(last)) };
}

function toKey(address: bigint): string {
  return address.toString(16).padStart(32, '0');
}
