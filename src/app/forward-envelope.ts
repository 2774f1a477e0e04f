import { createHmac, timingSafeEqual } from 'node:crypto';
import type { FrameNote } from '../core/evidence.ts';
import { scanLogs } from '../otlp/scan.ts';
import { TRACE_ID_BYTES, WIRE, WireCursor, WireError } from '../otlp/wire.ts';
import { WireWriter } from '../otlp/writer.ts';

/**
 * A forwarded event is an OTLP log record with the event's trace id, by which the Collector finds the instance. Its body is text:
 * the base64url of the note's length (four bytes, big-endian), the frame note as JSON, and the event as it was admitted, a logs
 * request of one record. So nothing on the way, no redaction and no batching, changes what the event is and whose. The attribute
 * FORWARDED holds the HMAC-SHA256 of that, in hex: who does not know the secret cannot state an event in another's name.
 */
export const FORWARDED = 'spantrail.forwarded';

const MARK = Buffer.from(FORWARDED);
const NOTE_LENGTH_BYTES = 4;

/** Field numbers of opentelemetry-proto's logs.proto and common.proto. */
const REQUEST = { resourceLogs: 1 } as const;
const RESOURCE_LOGS = { scopeLogs: 2 } as const;
const SCOPE_LOGS = { logRecords: 2 } as const;
const RECORD = { time: 1, body: 5, attributes: 6, traceId: 9, eventName: 12 } as const;
const KEY_VALUE = { key: 1, value: 2 } as const;
const ANY_VALUE = { string: 1 } as const;

/** One log record with its resource and scope: a logs request of its own. */
export interface SingleLog {
  readonly request: Buffer;
  /** The record's own bytes. */
  readonly record: Buffer;
  /** 16 bytes; undefined for none. */
  readonly traceId: Buffer | undefined;
}

/** Each record of a logs request that the scan has passed, in its order. Fields that nobody knows stay. */
export function* eachLog(payload: Buffer): Generator<SingleLog> {
  for (const resourceLogs of fieldsOf(payload)) {
    if (!isMessage(resourceLogs, REQUEST.resourceLogs)) continue;
    const inResource = fieldsOf(resourceLogs.content);
    const resource = inResource.filter((field) => !isMessage(field, RESOURCE_LOGS.scopeLogs)).map(({ whole }) => whole);
    for (const scopeLogs of inResource.filter((field) => isMessage(field, RESOURCE_LOGS.scopeLogs))) {
      const inScope = fieldsOf(scopeLogs.content);
      const scope = inScope.filter((field) => !isMessage(field, SCOPE_LOGS.logRecords)).map(({ whole }) => whole);
      for (const { content, whole } of inScope.filter((field) => isMessage(field, SCOPE_LOGS.logRecords))) {
        const scoped = wrap(RESOURCE_LOGS.scopeLogs, [...scope, whole]);
        const request = wrap(REQUEST.resourceLogs, [...resource, scoped]);
        yield { request, record: content, traceId: traceIdOf(request) };
      }
    }
  }
}

/** May there be forwarded events in this request? */
export function mayBeForwarded(payload: Buffer): boolean {
  return payload.includes(MARK);
}

/** An event as a log record of the envelope's form. */
export function sealEvent(traceId: Buffer, event: ForwardedEvent, secret: string): Buffer {
  const { receivedNs, ...rest } = event.note;
  const note = Buffer.from(JSON.stringify({ ...rest, receivedNs: receivedNs.toString() }));
  const length = Buffer.alloc(NOTE_LENGTH_BYTES);
  length.writeUInt32BE(note.length);
  const text = Buffer.concat([length, note, event.request]).toString('base64url');
  const writer = new WireWriter();
  writer.fixed64(RECORD.time, receivedNs);
  writer.message(RECORD.body, () => writer.text(ANY_VALUE.string, text));
  writer.message(RECORD.attributes, () => writeText(writer, FORWARDED, signatureOf(text, secret)));
  writer.bytes(RECORD.traceId, traceId);
  writer.text(RECORD.eventName, FORWARDED);
  return writer.finish();
}

/** A logs request of sealed events. */
export function requestOf(records: readonly Buffer[]): Buffer {
  const writer = new WireWriter();
  writer.message(REQUEST.resourceLogs, () => {
    writer.message(1, () => writer.message(1, () => writeText(writer, 'service.name', 'spantrail')));
    writer.message(RESOURCE_LOGS.scopeLogs, () => {
      for (const record of records) writer.bytes(SCOPE_LOGS.logRecords, record);
    });
  });
  return writer.finish();
}

/** An event as it was admitted, and what admission found out then. */
export interface ForwardedEvent {
  readonly note: FrameNote;
  /** A logs request. */
  readonly request: Buffer;
}

/** `plain`: no forwarded event; `refused`: it says that it is one, but not by a secret that is known. */
export type Opened = ({ readonly kind: 'event' } & ForwardedEvent) | { readonly kind: 'plain' | 'refused' };

/** Reads a log record's own bytes. Throws nothing. */
export function openEvent(record: Buffer, secrets: readonly string[]): Opened {
  if (!mayBeForwarded(record)) return { kind: 'plain' };
  const sealed = readSealed(record);
  if (sealed === undefined) return { kind: 'plain' };
  const given = Buffer.from(sealed.signature, 'hex');
  const isKnown = secrets.some((secret) => {
    const right = Buffer.from(signatureOf(sealed.text, secret), 'hex');
    return right.length === given.length && timingSafeEqual(right, given);
  });
  if (!isKnown) return { kind: 'refused' };
  // Written by sealEvent, as the signature proves.
  const bytes = Buffer.from(sealed.text, 'base64url');
  const noteEnd = NOTE_LENGTH_BYTES + bytes.readUInt32BE();
  const { receivedNs, ...rest } = JSON.parse(bytes.toString('utf8', NOTE_LENGTH_BYTES, noteEnd)) as NoteText;
  return { kind: 'event', note: { receivedNs: BigInt(receivedNs), ...rest }, request: bytes.subarray(noteEnd) };
}

type NoteText = Omit<FrameNote, 'receivedNs'> & { readonly receivedNs: string };

function signatureOf(text: string, secret: string): string {
  return createHmac('sha256', secret).update(text).digest('hex');
}

function readSealed(record: Buffer): { text: string; signature: string } | undefined {
  try {
    const fields = fieldsOf(record);
    const body = fields.findLast((field) => isMessage(field, RECORD.body));
    const signature = fields
      .filter((field) => isMessage(field, RECORD.attributes))
      .map(({ content }) => fieldsOf(content))
      .find((pair) => pair.some((field) => isMessage(field, KEY_VALUE.key) && field.content.equals(MARK)))
      ?.find((field) => isMessage(field, KEY_VALUE.value));
    if (body === undefined || signature === undefined) return undefined;
    return { text: textIn(body.content), signature: textIn(signature.content) };
  } catch (thrown) {
    if (!(thrown instanceof WireError)) throw thrown;
    return undefined;
  }
}

/** The text of an AnyValue; empty for what is no text. */
function textIn(value: Buffer): string {
  return (
    fieldsOf(value)
      .findLast((field) => isMessage(field, ANY_VALUE.string))
      ?.content.toString('latin1') ?? ''
  );
}

function writeText(writer: WireWriter, key: string, value: string): void {
  writer.text(KEY_VALUE.key, key);
  writer.message(KEY_VALUE.value, () => writer.text(ANY_VALUE.string, value));
}

interface Field {
  readonly number: number;
  readonly isDelimited: boolean;
  /** With its tag and length. */
  readonly whole: Buffer;
  /** Of a delimited field. */
  readonly content: Buffer;
}

function fieldsOf(message: Buffer): Field[] {
  const cursor = new WireCursor(message);
  const fields: Field[] = [];
  while (cursor.position < message.length) {
    const start = cursor.position;
    const tag = cursor.tag(message.length);
    const isDelimited = (tag & 7) === WIRE.delimited;
    let contentStart = cursor.position;
    if (isDelimited) {
      const end = cursor.delimitedEnd(message.length);
      contentStart = cursor.position;
      cursor.position = end;
    } else cursor.skip(tag, message.length);
    const content = message.subarray(contentStart, cursor.position);
    fields.push({ number: tag >>> 3, isDelimited, whole: message.subarray(start, cursor.position), content });
  }
  return fields;
}

function isMessage({ number, isDelimited }: Field, expected: number): boolean {
  return isDelimited && number === expected;
}

function wrap(field: number, parts: readonly Buffer[]): Buffer {
  const writer = new WireWriter();
  writer.bytes(field, Buffer.concat(parts));
  return writer.finish();
}

function traceIdOf(request: Buffer): Buffer | undefined {
  let found: Buffer | undefined;
  scanLogs(request, ({ traceIdAt }) => {
    if (traceIdAt >= 0) found = request.subarray(traceIdAt, traceIdAt + TRACE_ID_BYTES);
  });
  return found;
}
