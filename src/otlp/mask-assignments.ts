import { fill } from './mask-text.ts';

const EQUALS = 0x3d;
const SINGLE_QUOTE = 0x27;
const DOUBLE_QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COLON = 0x3a;
const DOLLAR = 0x24;
const PERCENT = 0x25;
const QUESTION = 0x3f;
const AT = 0x40;

/** What names of secrets end in, in any text: `DB_PASSWORD=…`, `client_secret=…`. Few words, because statements are full of `=`. */
const ENDINGS = [
  'password',
  'passwd',
  'passphrase',
  'pwd',
  'secret',
  'token',
  'apikey',
  'api_key',
  'api-key',
  'access_key',
];

const LAST_BYTES = Uint8Array.from({ length: 256 }, (_, byte) =>
  ENDINGS.some((name) => name.at(-1) === String.fromCharCode(byte).toLowerCase()) ? 1 : 0,
);

/** Is there the name of a secret right before the `=`? */
export function isAssignment(bytes: Buffer, start: number, equals: number): boolean {
  if (equals <= start || LAST_BYTES[bytes[equals - 1] as number] !== 1) return false;
  return ENDINGS.some((name) => endsWith(bytes, start, equals, name));
}

function endsWith(bytes: Buffer, start: number, end: number, name: string): boolean {
  const first = end - name.length;
  if (first < start) return false;
  for (let at = 0; at < name.length; at++) {
    const byte = bytes[first + at] as number;
    const small = byte >= 0x41 && byte <= 0x5a ? byte + 0x20 : byte;
    if (small !== name.charCodeAt(at)) return false;
  }
  return true;
}

/** Masks the values of secrets that stand behind their names in prose, settings and connection strings: `password=hunter2`. */
export function maskAssignments(text: Buffer): boolean {
  let masked = false;
  for (let equals = text.indexOf(EQUALS); equals >= 0; equals = text.indexOf(EQUALS, equals + 1)) {
    if (!isAssignment(text, 0, equals)) continue;
    const [start, end] = valueRange(text, equals + 1);
    masked = fill(text, start, end) || masked;
    equals = Math.max(equals, end - 1);
  }
  return masked;
}

/** What ends a value without quotes. */
const ENDS = Uint8Array.from({ length: 256 }, (_, byte) =>
  byte <= 0x20 || '"\'<>&;,)}]\\'.includes(String.fromCharCode(byte)) ? 1 : 0,
);

/** Where the value behind the `=` lies; empty for a placeholder (`?`, `$1`, `:name`, `%s`, `@name`). */
function valueRange(text: Buffer, from: number): readonly [number, number] {
  const isEscaped = text[from] === BACKSLASH;
  const open = isEscaped ? from + 1 : from;
  const quote = text[open];
  if (quote === SINGLE_QUOTE || quote === DOUBLE_QUOTE) {
    let end = open + 1;
    while (end < text.length && text[end] !== quote && !(isEscaped && text[end] === BACKSLASH)) end++;
    return [open + 1, end];
  }
  if (quote === DOLLAR || quote === COLON || quote === PERCENT || quote === QUESTION || quote === AT)
    return [from, from];
  let end = from;
  while (end < text.length && ENDS[text[end] as number] === 0) end++;
  return [from, end];
}
