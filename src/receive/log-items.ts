import { WireWriter } from '../otlp/writer.ts';
import { type FieldValue, isPlain } from './access-fields.ts';

/** What an event or an item of a webhook becomes: one OTLP log record. */
export interface LogItem {
  /** `service.name` of its resource; empty for none. */
  readonly service: string;
  /** Epoch nanoseconds; 0 for unknown. */
  readonly timeNs: bigint;
  /** Hex; empty for none. */
  readonly traceId: string;
  readonly spanId: string;
  /** Empty for none. */
  readonly eventName: string;
  readonly body?: string;
  /** In the order in which they are written. */
  readonly attributes: ReadonlyMap<string, FieldValue>;
}

/**
 * A LogRecord of opentelemetry-proto. It has no observed time: that would make two deliveries of one event two contents. The same
 * item is always the same bytes, by which later stages know a repetition.
 */
export function encodeLogItem({ timeNs, traceId, spanId, eventName, body, attributes }: LogItem): Buffer {
  const writer = new WireWriter();
  if (timeNs > 0n) writer.fixed64(1, timeNs);
  if (body !== undefined) writer.message(5, () => writer.text(1, body));
  for (const [key, value] of attributes) writer.message(6, () => writeKeyValue(writer, key, value));
  if (traceId !== '') writer.bytes(9, Buffer.from(traceId, 'hex'));
  if (spanId !== '') writer.bytes(10, Buffer.from(spanId, 'hex'));
  if (eventName !== '') writer.text(12, eventName);
  return writer.finish();
}

/** An ExportLogsServiceRequest of encoded log records by the service that states them. */
export function encodeLogRequest(byService: ReadonlyMap<string, readonly Uint8Array[]>): Buffer {
  const writer = new WireWriter();
  for (const [service, records] of byService) {
    writer.message(1, () => {
      writer.message(1, () => {
        if (service !== '') writer.message(1, () => writeKeyValue(writer, 'service.name', service));
      });
      writer.message(2, () => {
        for (const record of records) writer.bytes(2, record);
      });
    });
  }
  return writer.finish();
}

/** KeyValue: 1 key, 2 value. */
function writeKeyValue(writer: WireWriter, key: string, value: FieldValue): void {
  writer.text(1, key);
  writer.message(2, () => writeValue(writer, value));
}

/** AnyValue: 1 string, 2 bool, 3 int, 4 double, 5 array, 6 key-value list. */
function writeValue(writer: WireWriter, value: FieldValue): void {
  if (typeof value === 'string') writer.text(1, value);
  else if (typeof value === 'boolean') writer.integer(2, value ? 1 : 0);
  else if (typeof value === 'number') {
    // JSON and protobuf's Struct know one kind of number: whole ones are integers here, whichever way they came.
    if (Number.isSafeInteger(value)) writer.integer(3, value);
    else writer.double(4, value);
  } else if (isPlain(value)) {
    writer.message(6, () => {
      for (const [key, item] of Object.entries(value)) {
        writer.message(1, () => writeKeyValue(writer, key, item as FieldValue));
      }
    });
  } else {
    writer.message(5, () => {
      for (const item of value) writer.message(1, () => writeValue(writer, item));
    });
  }
}
