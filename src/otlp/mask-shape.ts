import type { Signal } from '../core/evidence.ts';
import { type Message, REQUESTS } from './schema.ts';
import { WIRE, type WireCursor } from './wire.ts';

/**
 * A part of a request on the way to attributes, values and texts. When something in it cannot be decoded, then
 * - `unit`: its framing was checked by the scan and stays, its attributes, values and texts are overwritten
 * - any other: all of it is overwritten, what is around it stays
 */
export interface Shape {
  readonly kind: 'unit' | 'whole' | 'attribute' | 'value' | 'text';
  /** Of its own for each; below 256. */
  readonly number: number;
  /** By field number; only what leads to attributes, values and texts. */
  readonly fields: (Shape | undefined)[];
  /** A walk over a request tells what is known of it (`SpanRows`). */
  readonly isKnown: boolean;
  /** Tags of the times, the surest first, of what happened at one; none of others. */
  readonly times: readonly number[];
}

const ATTRIBUTE: Shape = { kind: 'attribute', number: 0, fields: [], isKnown: false, times: [] };
const VALUE: Shape = { kind: 'value', number: 1, fields: [], isKnown: false, times: [] };
const TEXT: Shape = { kind: 'text', number: 2, fields: [], isKnown: false, times: [] };
let shapes = 3;

const WHOLE = /^(?:Resource|Scope|Event|Link|Status|Exemplar|\w+Point)$/;
/** Texts into which instrumentations write addresses and errors. */
const TEXTS: ReadonlySet<string> = new Set(['Span.name', 'Event.name', 'Status.message']);

const KNOWN = /^(?:Resource|Scope|Span)$/;

const TIMES: Readonly<Record<string, readonly string[]>> = {
  Span: ['startTimeUnixNano'],
  LogRecord: ['timeUnixNano', 'observedTimeUnixNano'],
};

function shapeOf(message: Message): Shape {
  if (message.name === 'KeyValue') return ATTRIBUTE;
  if (message.name === 'AnyValue') return VALUE;
  const times = (TIMES[message.name] ?? []).map(
    (name) => ((message.fields.get(name)?.number ?? 0) << 3) | WIRE.fixed64,
  );
  const kind = WHOLE.test(message.name) ? 'whole' : 'unit';
  const isKnown = KNOWN.test(message.name);
  const shape: Shape = { kind, number: shapes++, fields: [], isKnown, times };
  for (const [name, { number, type }] of message.fields) {
    const isText = TEXTS.has(`${message.name}.${name}`);
    if (!isText && (typeof type === 'string' || 'names' in type)) continue;
    const child = isText ? TEXT : shapeOf(type as Message);
    if (child.kind === 'unit' && child.fields.length === 0) continue;
    while (shape.fields.length <= number) shape.fields.push(undefined);
    shape.fields[number] = child;
  }
  return shape;
}

export const SHAPES: Readonly<Record<Signal, Shape>> = {
  traces: shapeOf(REQUESTS.traces),
  logs: shapeOf(REQUESTS.logs),
  metrics: shapeOf(REQUESTS.metrics),
};

/**
 * When the span or log record between `start` and `end` happened, in epoch nanoseconds; 0 when it does not tell. It has been
 * walked through before, so it is well formed. The cursor is at `end` afterwards.
 */
export function timeIn(cursor: WireCursor, start: number, end: number, { times }: Shape): bigint {
  const view = new DataView(cursor.bytes.buffer, cursor.bytes.byteOffset);
  let best = times.length;
  let timeNs = 0n;
  cursor.position = start;
  while (cursor.position < end) {
    const tag = cursor.tag(end);
    const rank = times.indexOf(tag);
    const at = cursor.position;
    cursor.skip(tag, end);
    if (rank < 0 || rank > best) continue;
    const read = view.getBigUint64(at, true);
    if (rank < best && read === 0n) continue;
    best = rank;
    timeNs = read;
  }
  return timeNs;
}
