/** Fields of spans, events and links as encoders usually write them: what is written otherwise is told by -1. */

import { SPAN_ID_BYTES, TRACE_ID_BYTES } from './wire.ts';

/** Tags of opentelemetry-proto 1.x, one byte each. */
const EVENT_TIME = 0x09;
const EVENT_NAME = 0x12;
const EVENT_ATTRIBUTES = 0x1a;
const LINK_TRACE_ID = 0x0a;
const LINK_SPAN_ID = 0x12;

/** Bytes that a length takes at most: one or two where it is written as short as can be, four where room was left for it (.NET's exporter). */
const LENGTH_BYTES_MAX = 4;

/** The end of a part whose length stands here; -1 for a longer one, or beyond the payload. */
export function partEnd(bytes: Uint8Array, at: number): number {
  const first = bytes[at] as number;
  if (first < 0x80) return at + 1 + first;
  const second = bytes[at + 1] as number;
  if (second < 0x80) return at + 2 + ((first & 0x7f) | (second << 7));
  let length = (first & 0x7f) | ((second & 0x7f) << 7);
  for (let byte = 2; byte < LENGTH_BYTES_MAX; byte++) {
    const next = bytes[at + byte] as number;
    length |= (next & 0x7f) << (7 * byte);
    if (next < 0x80) return at + byte + 1 + length;
  }
  return -1;
}

/** Where the part begins whose length, as `partEnd` takes it, stands here. */
export function partStart(bytes: Uint8Array, at: number): number {
  let start = at;
  while ((bytes[start] as number) >= 0x80) start++;
  return start + 1;
}

/** What the ids of a link take, with the tag and length between them. */
export const LINK_IDS_BYTES = TRACE_ID_BYTES + 2 + SPAN_ID_BYTES;

/** Where the ids of a link lie that begins with them; else -1. */
export function linkIdsAt(bytes: Uint8Array, start: number, end: number): number {
  const at = start + 2;
  const between = at + TRACE_ID_BYTES;
  const isUsual =
    at + LINK_IDS_BYTES <= end &&
    bytes[start] === LINK_TRACE_ID &&
    bytes[start + 1] === TRACE_ID_BYTES &&
    bytes[between] === LINK_SPAN_ID &&
    bytes[between + 1] === SPAN_ID_BYTES;
  return isUsual ? at : -1;
}

/** Where the time of an event lies; -1 when it has none that could be found. */
export function eventTimeAt(bytes: Uint8Array, start: number, end: number): number {
  let at = start;
  while (at >= 0 && at < end) {
    const tag = bytes[at++];
    if (tag === EVENT_TIME) return at + 8 <= end ? at : -1;
    at = tag === EVENT_NAME || tag === EVENT_ATTRIBUTES ? partEnd(bytes, at) : -1;
  }
  return -1;
}

/** The letters that a sampler's entry of a trace state begins with: see coverage/sampling.ts. */
const [LETTER_O, LETTER_T, EQUALS] = [0x6f, 0x74, 0x3d];

/** The end of a trace state, whose length stands here, that tells nothing of sampling; else -1. */
export function silentEnd(bytes: Uint8Array, at: number): number {
  const end = partEnd(bytes, at);
  for (let from = at + 1; from < end; from++) {
    if (bytes[from] === EQUALS && bytes[from - 1] === LETTER_T && bytes[from - 2] === LETTER_O) return -1;
  }
  return end;
}

/** The end of a number of one byte; -1 for a larger one. */
export function smallEnd(bytes: Uint8Array, at: number): number {
  return (bytes[at] as number) < 0x80 ? at + 1 : -1;
}
