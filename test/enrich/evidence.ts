import type {
  Attributes,
  AttributeValue,
  FrameNote,
  LogRecord,
  Resource,
  Span,
  SpanEvent,
} from '../../src/core/evidence.ts';
import { SPAN_KIND } from '../../src/core/evidence.ts';

/** 2026-11-22T10:00:00Z, where the traces of these tests begin. */
export const BASE_NS = 1_795_341_600_000_000_000n;
export const TRACE_ID = '4bf92f3577b34da6a3ce929d0e0e4736';

const NOTE: FrameNote = {
  receivedNs: BASE_NS + 5_000_000_000n,
  namespace: 'default',
  sender: 'grpc',
  trusted: true,
  vouches: false,
  peer: '10.9.9.9',
};

export type Plain = Readonly<Record<string, AttributeValue>>;

export function note(fields: Partial<FrameNote> = {}): FrameNote {
  return { ...NOTE, ...fields };
}

/** Milliseconds after the base, as epoch nanoseconds. */
export function at(milliseconds: number): bigint {
  return BASE_NS + BigInt(Math.round(milliseconds * 1e6));
}

/** `1` is `0000000000000001`. */
export function spanId(short: string): string {
  return short === '' ? '' : short.padStart(16, '0');
}

function attributesOf(plain: Plain): Attributes {
  return new Map(Object.entries(plain));
}

/** Bytes that differ when anything that a sender would have encoded differs. */
function rawOf(fields: object): Uint8Array {
  return Buffer.from(
    JSON.stringify(fields, (_, value: unknown) =>
      typeof value === 'bigint' ? `${value}n` : value instanceof Map ? [...value] : value,
    ),
  );
}

function resourceOf(service: string, more: Plain = {}): Resource {
  return { attributes: attributesOf({ ...(service && { 'service.name': service }), ...more }) };
}

export interface SpanFields {
  readonly id: string;
  readonly parent?: string;
  readonly name?: string;
  readonly kind?: keyof typeof SPAN_KIND;
  /** Milliseconds after the base: start and end. */
  readonly ms?: readonly [number, number];
  readonly times?: readonly [bigint, bigint];
  readonly service?: string;
  readonly resource?: Plain;
  readonly attributes?: Plain;
  readonly exception?: Plain;
  readonly status?: readonly [code: number, message?: string];
  readonly note?: Partial<FrameNote>;
}

export function span(fields: SpanFields): Span {
  const { ms = [0, 10] } = fields;
  const [startNs, endNs] = fields.times ?? [at(ms[0]), at(ms[1])];
  const events: SpanEvent[] = fields.exception ? [{ attributes: attributesOf(fields.exception) }] : [];
  const own = {
    traceId: TRACE_ID,
    spanId: spanId(fields.id),
    parentSpanId: spanId(fields.parent ?? ''),
    traceState: '',
    flags: 1,
    name: fields.name ?? `span ${fields.id}`,
    kind: SPAN_KIND[fields.kind ?? 'internal'],
    startNs,
    endNs,
    attributes: attributesOf(fields.attributes ?? {}),
    attributeCount: Object.keys(fields.attributes ?? {}).length,
    events,
    statusCode: fields.status?.[0] ?? 0,
    statusMessage: fields.status?.[1] ?? '',
  };
  return {
    ...own,
    resource: resourceOf(fields.service ?? 'orders', fields.resource),
    scope: { name: 'test', version: '1' },
    note: note(fields.note),
    raw: rawOf(own),
  };
}

export interface LogFields {
  readonly span?: string;
  readonly traceId?: string;
  readonly ms?: number;
  readonly eventName?: string;
  readonly service?: string;
  readonly attributes?: Plain;
  readonly body?: AttributeValue;
  readonly note?: Partial<FrameNote>;
}

export function log(fields: LogFields): LogRecord {
  const own = {
    traceId: fields.traceId ?? TRACE_ID,
    spanId: spanId(fields.span ?? ''),
    timeNs: at(fields.ms ?? 5),
    observedNs: at((fields.ms ?? 5) + 1),
    severityNumber: 9,
    severityText: 'INFO',
    eventName: fields.eventName ?? '',
    body: fields.body,
    attributes: attributesOf(fields.attributes ?? {}),
  };
  return {
    ...own,
    resource: resourceOf(fields.service ?? 'orders'),
    scope: { name: 'test', version: '1' },
    note: note(fields.note),
    raw: rawOf(own),
  };
}
