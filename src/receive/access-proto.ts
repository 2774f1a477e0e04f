import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type protobuf from 'protobufjs';
import { describeError } from '../core/errors.ts';
import { WIRE, WireCursor, WireError } from '../otlp/wire.ts';
import { isPlain } from './access-fields.ts';
import type { Receipt } from './receipt.ts';

/** The path of the one method, as gRPC has it. */
export const RECORD_PATH = '/spantrail.access.v1.AccessService/Record';

/** Beside `src`, and beside `dist` in the package. */
const PROTO_FILE = join(import.meta.dirname, '../../proto/spantrail/access/v1/access.proto');
const IMPORTS = ['struct', 'timestamp', 'duration'].map((name) => `google/protobuf/${name}.proto`);

/** The messages of access.proto. A full library reads them: events are few compared with spans, and mistakes are dear. */
export interface AccessCodec {
  /** The bytes of each event in a RecordRequest. Throws WireError at once when it is none. */
  readonly split: (request: Uint8Array) => Iterable<Uint8Array>;
  /** One event as plain data in the names of the .proto file, times and durations as nanoseconds. Throws when it is none. */
  readonly decode: (event: Uint8Array) => unknown;
  readonly encodeReceipt: (receipt: Receipt) => Buffer;
}

export function createAccessCodec(): AccessCodec {
  // Read here: that it is not there is told at the start.
  const definition = readFileSync(PROTO_FILE, 'utf8');
  let messages: ReturnType<typeof loadMessages> | undefined;
  return {
    split: splitRequest,
    decode(bytes) {
      messages ??= loadMessages(definition);
      const { event } = messages;
      return fromProtobuf(event.toObject(event.decode(bytes), { longs: String, bytes: String }));
    },
    encodeReceipt({ rejectedCount, ...receipt }) {
      messages ??= loadMessages(definition);
      const { response } = messages;
      const message = response.fromObject({ ...receipt, rejected_count: rejectedCount });
      return Buffer.from(response.encode(message).finish());
    },
  };
}

/** The library is loaded with the first event: most instances never get one. */
function loadMessages(definition: string) {
  const library: typeof protobuf = createRequire(import.meta.url)('protobufjs');
  const root = new library.Root();
  for (const name of IMPORTS) root.addJSON(library.common.get(name)?.nested ?? {});
  library.parse(definition, root, { keepCase: true });
  return {
    event: root.lookupType('spantrail.access.v1.AccessEvent'),
    response: root.lookupType('spantrail.access.v1.RecordResponse'),
  };
}

/** RecordRequest.events */
const EVENTS = 1;

/**
 * Each event is decoded by itself, so that one that cannot be costs no other, and one after the other, so that a request of
 * millions of empty ones takes no memory.
 */
function splitRequest(request: Uint8Array): Iterable<Uint8Array> {
  for (const _ of eventsIn(request));
  return eventsIn(request);
}

function* eventsIn(request: Uint8Array): Generator<Uint8Array> {
  const cursor = new WireCursor(request);
  while (cursor.position < request.length) {
    const tag = cursor.tag(request.length);
    if (tag === ((EVENTS << 3) | WIRE.delimited)) {
      const end = cursor.delimitedEnd(request.length);
      const event = request.subarray(cursor.position, end);
      cursor.position = end;
      yield event;
    } else if (tag >>> 3 === EVENTS) throw new WireError(cursor.position, 'events are messages');
    else cursor.skip(tag, request.length);
  }
}

/** Fields that hold messages of google.protobuf, and how they read as plain data. */
const READERS: Readonly<Record<string, (value: unknown) => unknown>> = {
  time: nanosecondsOf,
  duration: nanosecondsOf,
  attributes: structOf,
  before: plainOf,
  after: plainOf,
};

function fromProtobuf(message: unknown): unknown {
  if (Array.isArray(message)) return message.map(fromProtobuf);
  if (!isPlain(message)) return message;
  return Object.fromEntries(
    Object.entries(message).map(([key, value]) => [key, (READERS[key] ?? fromProtobuf)(value)]),
  );
}

/** A Timestamp or Duration: 1 seconds, 2 nanos. What is out of range becomes a text that no reader takes. */
function nanosecondsOf(value: unknown): unknown {
  if (!isPlain(value)) return value;
  const { seconds = '0', nanos = 0 } = value;
  const isWhole = typeof nanos === 'number' && nanos >= 0 && nanos < 1e9;
  if (!isWhole) return `${seconds} seconds and ${nanos} nanoseconds`;
  return BigInt(String(seconds)) * 1_000_000_000n + BigInt(nanos);
}

function structOf(value: unknown): unknown {
  if (!isPlain(value) || !isPlain(value['fields'])) return {};
  return Object.fromEntries(Object.entries(value['fields']).map(([key, field]) => [key, plainOf(field)]));
}

/** A Value: one of its kinds; null, and none at all, is absent. */
function plainOf(value: unknown): unknown {
  if (!isPlain(value)) return undefined;
  const { stringValue, numberValue, boolValue, structValue, listValue } = value;
  if (isPlain(listValue)) {
    const { values } = listValue;
    return Array.isArray(values) ? values.map(plainOf) : [];
  }
  return structValue === undefined ? (stringValue ?? numberValue ?? boolValue) : structOf(structValue);
}

/** What the bytes of an event that cannot be decoded are told. */
export function undecodable(thrown: unknown): string {
  return `is no AccessEvent of access.proto: ${describeError(thrown)}`;
}
