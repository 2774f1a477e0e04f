import { WIRE } from './wire.ts';

const { varint, fixed64, fixed32, delimited } = WIRE;

/** Tags of opentelemetry-proto 1.x: field number and wire type as they stand in front of each field. */
export const SPAN = {
  traceId: (1 << 3) | delimited,
  spanId: (2 << 3) | delimited,
  traceState: (3 << 3) | delimited,
  parentSpanId: (4 << 3) | delimited,
  name: (5 << 3) | delimited,
  kind: (6 << 3) | varint,
  start: (7 << 3) | fixed64,
  end: (8 << 3) | fixed64,
  attributes: (9 << 3) | delimited,
  events: (11 << 3) | delimited,
  status: (15 << 3) | delimited,
  flags: (16 << 3) | fixed32,
} as const;

export const EVENT = { attributes: (3 << 3) | delimited } as const;
export const STATUS = { message: (2 << 3) | delimited, code: (3 << 3) | varint } as const;

export const LOG = {
  time: (1 << 3) | fixed64,
  severityNumber: (2 << 3) | varint,
  severityText: (3 << 3) | delimited,
  body: (5 << 3) | delimited,
  attributes: (6 << 3) | delimited,
  traceId: (9 << 3) | delimited,
  spanId: (10 << 3) | delimited,
  observed: (11 << 3) | fixed64,
  eventName: (12 << 3) | delimited,
} as const;
