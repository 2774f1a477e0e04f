/**
 * Bits by which sets of evidence of equal size are ordered, looked at for every span: four words of it are taken at a time. They guard
 * against nothing; digests do that.
 */
export function bitsAt(view: DataView, start: number, end: number): number {
  let [first, second, third, fourth] = [0x3c6e_f372, 0x2545_f491, 0x5851_f42d, 0x1405_7b7e];
  let at = start;
  for (; at + 16 <= end; at += 16) {
    first = mixWord(first, view.getInt32(at, true));
    second = mixWord(second, view.getInt32(at + 4, true));
    third = mixWord(third, view.getInt32(at + 8, true));
    fourth = mixWord(fourth, view.getInt32(at + 12, true));
  }
  let mixed = mixWord(mixWord(first, second), mixWord(third, fourth));
  for (; at + 4 <= end; at += 4) mixed = mixWord(mixed, view.getInt32(at, true));
  for (; at < end; at++) mixed = mixWord(mixed, view.getUint8(at));
  return mixWord(mixed, end - start);
}

/** 32 bits that stand for one distinct piece of evidence: bits of its bytes, and of who says so. */
export function saidBits(bits: number, said: number): number {
  return scramble(mixWord(bits, said));
}

function mixWord(mixed: number, word: number): number {
  const product = Math.imul(mixed ^ word, 0x9e37_79b1);
  return product ^ (product >>> 15);
}

/**
 * Scrambles 32 bits (the finaliser of MurmurHash3), so that a sum over pieces does not cancel what CRC keeps linear.
 */
export function scramble(bits: number): number {
  let mixed = bits;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85eb_ca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2_ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}
