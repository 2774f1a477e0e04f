import type { FrameNote, LogRecord, Span } from '../../src/core/evidence.ts';

/** 2026-11-22T10:00:00Z. */
export const BASE_MS = 1_795_341_600_000;
export const TRACE_ID = '4bf92f3577b34da6a3ce929d0e0e4736';

const NOTE: FrameNote = {
  receivedNs: BigInt(BASE_MS) * 1_000_000n,
  namespace: 'default',
  sender: 'grpc',
  trusted: true,
  vouches: false,
  peer: '10.0.0.1',
};

export interface SpanFields {
  readonly id: string;
  readonly parent?: string;
  readonly service?: string;
  readonly kind?: number;
  /** Milliseconds after the base. */
  readonly startMs?: number;
  readonly endMs?: number;
  readonly traceState?: string;
  readonly traceId?: string;
  readonly flags?: number;
}

const resourceOf = (service: string | undefined) => ({
  attributes: new Map(service === undefined ? [] : [['service.name', service]]),
});

export function span(fields: SpanFields): Span {
  const { startMs = 0, endMs = startMs + 10 } = fields;
  return {
    traceId: fields.traceId ?? TRACE_ID,
    spanId: fields.id,
    parentSpanId: fields.parent ?? '',
    traceState: fields.traceState ?? '',
    flags: fields.flags ?? 0,
    name: 'work',
    kind: fields.kind ?? 1,
    startNs: BigInt(BASE_MS + startMs) * 1_000_000n,
    endNs: BigInt(BASE_MS + endMs) * 1_000_000n,
    attributes: new Map(),
    attributeCount: 0,
    events: [],
    statusCode: 0,
    statusMessage: '',
    resource: resourceOf(fields.service),
    scope: { name: '', version: '' },
    note: NOTE,
    // The resource is not part of the span's bytes.
    raw: Buffer.from(JSON.stringify({ ...fields, service: undefined })),
  };
}

export function log(fields: { service?: string; timeMs?: number; observedMs?: number }): LogRecord {
  const timeOf = (milliseconds: number | undefined) =>
    milliseconds === undefined ? 0n : BigInt(BASE_MS + milliseconds) * 1_000_000n;
  return {
    traceId: TRACE_ID,
    spanId: '',
    timeNs: timeOf(fields.timeMs),
    observedNs: timeOf(fields.observedMs),
    severityNumber: 0,
    severityText: '',
    eventName: '',
    body: undefined,
    attributes: new Map(),
    resource: resourceOf(fields.service),
    scope: { name: '', version: '' },
    note: NOTE,
    raw: Buffer.alloc(0),
  };
}
