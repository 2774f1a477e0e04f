import type { Random } from '../simulation/random.ts';

/** Lengths, counts and ids at which decoders go wrong, as they stand in bytes. */
const BYTES = [0x00, 0x01, 0x7f, 0x80, 0xff, 0x0a, 0x12, 0x22, 0x5c, 0x27, 0x0b, 0x0c];
const PIECES = [
  Buffer.from([0xff, 0xff, 0xff, 0xff, 0x0f]),
  Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
  Buffer.from([0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80]),
  Buffer.alloc(8),
  Buffer.alloc(16),
  Buffer.from([0xed, 0xa0, 0x80]),
  Buffer.from([0xf0, 0x9f, 0x92]),
];

const BYTES_MAX = 8 * 1024;
const CHANGES_MAX = 4;

/** One to a few changes of the input; `tokens` are words of the language that the input is written in. */
export function mutate(input: Buffer, random: Random, others: readonly Buffer[], tokens: readonly string[]): Buffer {
  let bytes = input;
  for (let changes = random.int(1, CHANGES_MAX); changes > 0; changes--) bytes = change(bytes, random, others, tokens);
  return bytes.length > BYTES_MAX ? bytes.subarray(0, BYTES_MAX) : bytes;
}

function change(bytes: Buffer, random: Random, others: readonly Buffer[], tokens: readonly string[]): Buffer {
  const at = random.int(0, bytes.length);
  const end = Math.min(bytes.length, at + random.int(1, random.chance(0.2) ? 200 : 8));
  switch (random.int(0, 8)) {
    case 0:
      return withByte(bytes, at, (byte) => byte ^ (1 << random.int(0, 7)));
    case 1:
      return withByte(bytes, at, () => random.pick(BYTES));
    case 2:
      return withByte(bytes, at, (byte) => byte + random.pick([-1, 1, 7, -7]));
    case 3:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(end)]);
    case 4:
      return Buffer.concat([bytes.subarray(0, end), bytes.subarray(at)]);
    case 5:
      return Buffer.concat([bytes.subarray(0, at), random.pick(PIECES), bytes.subarray(random.chance(0.5) ? at : end)]);
    case 6:
      return bytes.subarray(0, at);
    case 7: {
      const other = random.pick(others);
      return Buffer.concat([bytes.subarray(0, at), other.subarray(random.int(0, other.length))]);
    }
    default: {
      const token =
        tokens.length > 0 ? Buffer.from(random.pick(tokens)) : Buffer.alloc(random.int(1, 40), random.int(0, 255));
      return Buffer.concat([bytes.subarray(0, at), token, bytes.subarray(random.chance(0.5) ? at : end)]);
    }
  }
}

function withByte(bytes: Buffer, at: number, next: (byte: number) => number): Buffer {
  if (bytes.length === 0) return bytes;
  const copy = Buffer.from(bytes);
  const place = Math.min(at, bytes.length - 1);
  copy[place] = next(copy[place] ?? 0) & 0xff;
  return copy;
}
