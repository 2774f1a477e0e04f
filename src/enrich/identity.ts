import { hash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { remember } from '../access/attributes.ts';
import type { AttributeValue, FrameNote, LogRecord, Resource, Scope } from '../core/evidence.ts';
import { bitsAt, saidBits, scramble } from '../core/piece-bits.ts';
import type { RawBytes } from '../core/raw-bytes.ts';
import { RESOURCE_KEYS } from './where.ts';

/** Hex digits of a record id and of a content digest: SHA-256 cut to 128 bits. */
const ID_HEX_DIGITS = 32;
const PIECES_MAX = 0x7fff_ffff;

function digest(...parts: readonly string[]): string {
  return hash('sha256', framed(...parts), 'hex').slice(0, ID_HEX_DIGITS);
}

function framed(...parts: readonly string[]): string {
  let text = '';
  for (const part of parts) text += text === '' ? `${part.length}:${part}` : `,${part.length}:${part}`;
  return text;
}

/**
 * The id of the access that a span makes, or of the only explicit event on that span: the first 128 bits, in hex, of
 * SHA-256 over namespace, trace id and span id. Never over action or target, so that it stays when a route becomes
 * known.
 */
export function spanRecordId(namespace: string, traceId: string, spanId: string): string {
  if (lastTrace.namespace !== namespace || lastTrace.traceId !== traceId)
    lastTrace = { namespace, traceId, text: framed('span', namespace, traceId) };
  return hash('sha256', `${lastTrace.text},${spanId.length}:${spanId}`, 'hex').slice(0, ID_HEX_DIGITS);
}

/** What the texts of the spans of one trace begin with. */
let lastTrace = { namespace: '', traceId: '', text: framed('span', '', '') };

const TRACE_ID_CHARS = 32;
const SPAN_ID_CHARS = 16;

/** `spanRecordId` for the spans of one trace after the other, without a text for each. */
export class SpanIdentity {
  #text = Buffer.alloc(0);
  #namespace: string | undefined;

  /** The trace id's hex digits are in the bytes from `start` on. */
  begin(namespace: string, digits: Uint8Array, start: number): void {
    if (namespace !== this.#namespace) {
      this.#text = Buffer.from(framed('span', namespace, '0'.repeat(TRACE_ID_CHARS), '0'.repeat(SPAN_ID_CHARS)));
      this.#namespace = namespace;
    }
    const text = this.#text;
    const to = text.length - SPAN_ID_CHARS - `,${SPAN_ID_CHARS}:`.length - TRACE_ID_CHARS;
    for (let index = 0; index < TRACE_ID_CHARS; index++) text[to + index] = digits[start + index] as number;
  }

  /** The span id's hex digits are in the bytes from `start` on. The id's bytes are the first 16 characters, a byte each. */
  recordId(digits: Uint8Array, start: number): string {
    const text = this.#text;
    const to = text.length - SPAN_ID_CHARS;
    for (let index = 0; index < SPAN_ID_CHARS; index++) text[to + index] = digits[start + index] as number;
    return hash('sha256', text, 'binary');
  }
}

/**
 * The id of an explicit event that no span stands for. An own id counts within the preset and the service that gave it,
 * because services behind one Collector share a sender and may number their events alike.
 */
export function eventRecordId(namespace: string, sender: string, identity: string): string {
  return digest('event', namespace, sender, identity);
}

/** What an event is known by, apart from its sender: its own id, else its content. */
export function eventIdentity(preset: string, service: string, ownId: string, contentDigest: string): string {
  return ownId === ''
    ? `content ${contentDigest}`
    : `own ${preset.length}:${preset}${service.length}:${service}${ownId}`;
}

export function textOf(value: AttributeValue | undefined): string {
  if (value === undefined) return '';
  if (typeof value !== 'object') return String(value);
  if (Array.isArray(value)) return `[${value.map((item) => `${typeof item}:${textOf(item)}`).join()}]`;
  const keys = Object.keys(value).sort();
  return `{${keys.map((key) => `${key}=${typeof value[key]}:${textOf(value[key])}`).join()}}`;
}

/**
 * Text that is equal for equal origins. Only the fixed list of resource attributes counts, not whatever else the
 * rules made the reader decode, so that ids survive a change of rules.
 */
export function originText(resource: Resource, scope: Scope): string {
  const parts = RESOURCE_KEYS.map((key) => textOf(resource.attributes.get(key)));
  return [...parts, scope.name, scope.version].map((part) => `${part.length}:${part}`).join();
}

/**
 * Text that is equal only for origins that agree in every decoded attribute: which copy was taken can then not
 * matter.
 */
export function fullOriginText(resource: Resource, scope: Scope): string {
  const parts = [...resource.attributes].map(([key, value]) => `${key}=${textOf(value)}`).sort();
  return [...parts, scope.name, scope.version].map((part) => `${part.length}:${part}`).join();
}

/**
 * 32 bits that stand for who sent a copy and from where; they order copies of one content, the least first. That it is no order
 * anyone would choose by hand matters less than that copies of a huge trace can be compared by one word.
 */
export function copyBits({ sender, trusted, vouches }: FrameNote, resource: Resource, scope: Scope): number {
  const text = `${trusted} ${vouches} ${sender.length}:${sender}${fullOriginText(resource, scope)}`;
  return Number.parseInt(hash('sha256', text, 'hex').slice(0, 8), 16);
}

/** Digest of a log record's content: resource, scope and the record's own bytes, which hold its observed time. */
export function logDigest(log: LogRecord): string {
  const origin = Buffer.from(originText(log.resource, log.scope));
  const header = Buffer.from(`${origin.length}:`);
  return hash('sha256', Buffer.concat([header, origin, log.raw]), 'hex').slice(0, ID_HEX_DIGITS);
}

/** Bits that stand for who sent a piece. */
export function noteBits({ sender, trusted, vouches }: FrameNote): number {
  return bitsOfSender(`${sender} ${trusted} ${vouches}`);
}

/** Senders are few. */
const bitsOfSender = remember((text) => crc32(text));

/** 32 bits that stand for one distinct piece of evidence: its bytes and who says so. */
export function pieceBits(raw: RawBytes, said: number): number {
  return saidBits(bitsAt(new DataView(raw.buffer, raw.byteOffset, raw.byteLength), 0, raw.byteLength), said);
}

/**
 * Rank of an evidence set: its size in the upper 31 bits, so that a superset always ranks higher; in the lower 32 an
 * order-independent digest of the pieces, so that different sets of one size are ordered everywhere alike.
 */
export function rankOf(pieces: number, bitsSum: number): bigint {
  return (BigInt(Math.min(pieces, PIECES_MAX)) << 32n) | BigInt(scramble(bitsSum >>> 0));
}
