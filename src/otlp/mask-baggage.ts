import { fill } from './mask-text.ts';

const COMMA = 0x2c;
const SEMICOLON = 0x3b;
const EQUALS = 0x3d;
const SPACE = 0x20;

/** What to do with the value of a member of this name: `hash` puts something in its place. */
export type Decide = (nameStart: number, nameEnd: number) => 'keep' | 'fill' | 'hash';

/** Masks values in a baggage header (W3C Baggage): `name=value;property,name=value`. Returns whether anything was masked. */
export function maskBaggage(text: Buffer, decide: Decide, hash: (id: Buffer) => void): boolean {
  let masked = false;
  for (let start = 0; start < text.length; ) {
    const end = before(text, COMMA, start, text.length);
    const equals = before(text, EQUALS, start, end);
    let nameEnd = equals;
    while (start < nameEnd && (text[start] as number) <= SPACE) start++;
    while (nameEnd > start && (text[nameEnd - 1] as number) <= SPACE) nameEnd--;
    const action = equals < end ? decide(start, nameEnd) : 'keep';
    if (action !== 'keep') {
      let from = equals + 1;
      let to = before(text, SEMICOLON, from, end);
      while (from < to && (text[from] as number) <= SPACE) from++;
      while (to > from && (text[to - 1] as number) <= SPACE) to--;
      if (action === 'fill') masked = fill(text, from, to) || masked;
      else if (from < to) {
        hash(text.subarray(from, to));
        masked = true;
      }
    }
    start = end + 1;
  }
  return masked;
}

function before(text: Buffer, byte: number, from: number, end: number): number {
  const at = text.subarray(0, end).indexOf(byte, from);
  return at < 0 ? end : at;
}
