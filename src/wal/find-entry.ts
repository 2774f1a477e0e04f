import { ENTRY_HEAD_BYTES, entryLength, openEntry, type SegmentKind } from './segment-format.ts';

/** Bytes whose checksums are tried before the search gives up: some seconds of work, met only by payloads made for it. */
const CHECKED_BYTES_MAX = 2 ** 31;

/**
 * Is there a whole entry anywhere in these bytes, after their first? Then they are no torn tail: a crash leaves a beginning
 * of what was written last, and nothing behind it. True as well when there are too many places to try.
 */
export function holdsWholeEntry(bytes: Buffer, kind: SegmentKind): boolean {
  let checkedBytes = 0;
  for (let at = 1; at + ENTRY_HEAD_BYTES <= bytes.length; at++) {
    if (bytes[at + 8] !== kind.version) continue;
    const length = entryLength(bytes, at);
    if (length === undefined || at + length > bytes.length) continue;
    checkedBytes += length;
    if (checkedBytes > CHECKED_BYTES_MAX) return true;
    // Where it stands does not matter for its checksum.
    if (openEntry(bytes.subarray(at, at + length), kind, { segment: 0, offset: at }) !== undefined) return true;
  }
  return false;
}
