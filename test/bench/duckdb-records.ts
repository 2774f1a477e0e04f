import { randomFillSync } from 'node:crypto';
import { compileRules } from '../../src/access/rules.ts';
import { DEFAULT_ACCESS_SETTINGS } from '../../src/access/settings.ts';
import { parseTimestamp } from '../../src/core/clock.ts';
import { documentText } from '../../src/core/document.ts';
import type { Span } from '../../src/core/evidence.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import type { RecordWrite, WriteForm } from '../../src/core/settlement.ts';
import { createSettle } from '../../src/enrich/settle.ts';
import { compileKeys, PayloadReader } from '../../src/otlp/decode.ts';
import { scanTraces } from '../../src/otlp/scan.ts';
import { buildTemplate, freshen, GRPC_PREFIX_BYTES } from './workload.ts';

/** As many as the pump writes at once. */
export const BATCH_RECORDS = 5_000;

/** Of one writing run: each is a form of its own for each kind of record. */
export const USERS = 20;
/** When the template's traces are, epoch nanoseconds. */
export const NEWEST_NS = 1_795_341_600_000_000_000n;
const TEMPLATE_UNIQUE = '0011223344556677';
const TEMPLATE_MS = 1_795_341_600_000;
/** Of a trace, at most. */
const SPANS = 16;
const USER = /user-\d+/g;
const HOLES =
  /(?<="(?:id|span_id|entry_id)":"|trace\/)[0-9a-f]{32}(?=")|(?<="(?:id|span_id)":")[0-9a-f]{16}(?=")|2026-11-22T10:00:0\d\.\d{9}Z|person-\d{6}|(?<="(?:duration|self_time|start_offset)":)[\d ]{20}|(?<=, )[\d ]{20} ms/g;
/** Numbers stand in gaps of 20 characters, as the settle by form writes them. */
const NUMBERS = /(?<="(?:duration|self_time|start_offset)":|, )\d+(?=[,}]| ms")/g;
const NUMBER_CHARS = 20;

interface Hole {
  readonly at: number;
  readonly kind: 'trace' | 'span' | 'time' | 'user' | 'id' | 'number';
  readonly length: number;
  /** Of a time, nanoseconds after the trace's start; of an id, which of the trace's; of a number, itself. */
  readonly value: number;
}

interface Shape {
  readonly bytes: Buffer;
  readonly holes: readonly Hole[];
  readonly ownId: number;
  readonly offsetNs: number;
  readonly ranges: Int32Array;
  /** Those and where the user stands. */
  readonly rangesWithUser: Int32Array;
  readonly forms: (WriteForm | undefined)[];
}

/** The records of one payload of the bench, as the settle makes them, trace by trace. */
export function settledRecords(): AuditRecord[][] {
  const template = buildTemplate();
  const bytes = Buffer.from(template.bytes);
  freshen(bytes, template, Buffer.from(TEMPLATE_UNIQUE, 'hex'), TEMPLATE_MS);
  const note = {
    receivedNs: NEWEST_NS,
    namespace: 'default',
    sender: 'grpc',
    trusted: true,
    vouches: false,
    peer: '10.9.9.9',
  };
  const payload = bytes.subarray(GRPC_PREFIX_BYTES);
  const reader = new PayloadReader(payload, 'traces', note, compileKeys(['*']));
  const traces = new Map<string, Span[]>();
  scanTraces(payload, (item) => {
    const found = reader.span(item.itemStart);
    if (found === undefined || !('traceId' in found)) return;
    traces.set(found.traceId, [...(traces.get(found.traceId) ?? []), found]);
  });
  const settle = createSettle(compileRules(DEFAULT_ACCESS_SETTINGS), {
    traceUrlTemplate: 'https://traces.example/trace/${trace_id}',
  });
  return [...traces].map(([traceId, spans]) =>
    settle({ namespace: 'default', traceId, spans, logs: [] }).records.map(({ record }) => record),
  );
}

function shapesOf(records: readonly AuditRecord[]): Shape[] {
  const ids = [...new Set(records.flatMap(({ event, audit }) => [event.id, audit.entry_id ?? event.id]))];
  const spans: string[] = [];
  return records.map((record) => {
    const text = documentText(record)
      .replace(USER, 'person-000000')
      .replace(NUMBERS, (number) => number.padStart(NUMBER_CHARS));
    const holes = [...text.matchAll(HOLES)].map(({ 0: found, index: at }): Hole => {
      // Offsets in bytes: templates are ASCII.
      const { length } = found;
      if (found.startsWith('2026')) return { at, length, kind: 'time', value: afterStartNs(found) };
      if (found.startsWith('person')) return { at, length, kind: 'user', value: 0 };
      if (found.includes(' ')) return { at, length: NUMBER_CHARS, kind: 'number', value: Number.parseInt(found, 10) };
      if (length === 16) {
        if (!spans.includes(found)) spans.push(found);
        return { at, length, kind: 'span', value: spans.indexOf(found) };
      }
      const value = ids.indexOf(found);
      return value >= 0 ? { at, length, kind: 'id', value } : { at, length, kind: 'trace', value: 0 };
    });
    const rangesOf = (gaps: readonly Hole[]) => Int32Array.from(gaps.flatMap(({ at, length }) => [at, at + length]));
    return {
      bytes: Buffer.from(text),
      holes,
      ownId: ids.indexOf(record.event.id),
      offsetNs: afterStartNs(record['@timestamp']),
      ranges: rangesOf(holes.filter(({ kind }) => kind !== 'user')),
      rangesWithUser: rangesOf(holes),
      forms: [],
    };
  });
}

function afterStartNs(time: string): number {
  return Number((parseTimestamp(time) ?? 0n) - NEWEST_NS);
}

/** What a trace puts into the holes of its records. */
interface Values {
  readonly trace: string;
  readonly spans: string;
  readonly ids: readonly string[];
  readonly more: number;
}

/** Batches of writes, each a little later than the one before. */
export class Producer {
  readonly #traces: readonly (readonly Shape[])[];
  readonly #stepNs: bigint;
  readonly #hasGapsForUsers: boolean;
  readonly #random = Buffer.alloc(64 * 1024);
  #randomAt = 64 * 1024;
  #startNs: bigint;
  #number = 0;

  /** With gaps for the users in forms that are still one user's, so that who it is can be said anew where records are copied. */
  constructor(startNs: bigint, stepNs: bigint, hasGapsForUsers = false) {
    this.#hasGapsForUsers = hasGapsForUsers;
    this.#traces = settledRecords().map(shapesOf);
    this.#startNs = startNs;
    this.#stepNs = stepNs;
  }

  batch(): RecordWrite[] {
    const writes: RecordWrite[] = [];
    while (writes.length < BATCH_RECORDS) {
      const shapes = this.#traces[this.#number++ % this.#traces.length] ?? [];
      this.#startNs += this.#stepNs;
      const user = Math.floor(Math.random() * USERS);
      const trace = this.#hex(16);
      const spans = this.#hex(8 * SPANS);
      const more = Math.floor(Math.random() * 1_000_000);
      const ids = Array.from({ length: shapes.length + 1 }, () => this.#hex(16));
      for (const shape of shapes) writes.push(this.#write(shape, user, { trace, spans, ids, more }));
    }
    return writes.slice(0, BATCH_RECORDS);
  }

  #write(shape: Shape, user: number, { trace, spans, ids, more }: Values): RecordWrite {
    const bytes = Buffer.from(shape.bytes);
    for (const { at, kind, value } of shape.holes) {
      if (kind === 'trace') bytes.write(trace, at, 'latin1');
      else if (kind === 'span') bytes.write(spans.slice(16 * value, 16 * value + 16), at, 'latin1');
      else if (kind === 'number')
        bytes.write(String(value === 0 ? 0 : value + more).padStart(NUMBER_CHARS), at, 'latin1');
      else if (kind === 'id') bytes.write(ids[value] ?? '', at, 'latin1');
      else if (kind === 'user') bytes.write(String(user).padStart(6, '0'), at + 'person-'.length, 'latin1');
      else bytes.write(timeText(this.#startNs + BigInt(value)), at, 'latin1');
    }
    const ranges = this.#hasGapsForUsers ? shape.rangesWithUser : shape.ranges;
    shape.forms[user] ??= { gaps: { size: bytes.length, ranges } };
    const form = shape.forms[user];
    return {
      id: ids[shape.ownId] ?? '',
      namespace: 'default',
      timestampNs: this.#startNs + BigInt(shape.offsetNs),
      rank: 8n << 48n,
      form,
      json: () => bytes,
      get record() {
        return JSON.parse(bytes.toString()) as AuditRecord;
      },
    };
  }

  #hex(bytes: number): string {
    if (this.#randomAt + bytes > this.#random.length) {
      randomFillSync(this.#random);
      this.#randomAt = 0;
    }
    this.#randomAt += bytes;
    return this.#random.toString('hex', this.#randomAt - bytes, this.#randomAt);
  }
}

let secondText = '';
let secondOf = -1n;

function timeText(ns: bigint): string {
  const second = ns / 1_000_000_000n;
  if (second !== secondOf) {
    secondOf = second;
    secondText = new Date(Number(second) * 1000).toISOString().slice(0, 20);
  }
  return `${secondText}${String(ns % 1_000_000_000n).padStart(9, '0')}Z`;
}
