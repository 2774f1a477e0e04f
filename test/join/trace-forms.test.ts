import { describe, expect, it } from 'vitest';
import { openPressure } from '../../src/app/pressure.ts';
import { createSettling } from '../../src/app/settling.ts';
import { joinSettings } from '../../src/app/shards.ts';
import { settingsSchema } from '../../src/config/schema.ts';
import { documentText } from '../../src/core/document.ts';
import type { FrameNote } from '../../src/core/evidence.ts';
import { Counters } from '../../src/core/metrics.ts';
import type { FormGaps, RecordWrite, WriteForm } from '../../src/core/settlement.ts';
import type { SettledBatch } from '../../src/join/batch.ts';
import { BatchPacker, BatchUnpacker } from '../../src/join/batch-crossing.ts';
import { FrameSplitter } from '../../src/join/frame-split.ts';
import { JoinShard } from '../../src/join/shard.ts';
import { MailWriter, readMail } from '../../src/join/shard-mail.ts';
import type { StoredFrame } from '../../src/wal/frame.ts';
import {
  delimited,
  encodeLogs,
  encodeMetrics,
  keyValues,
  spanMessage,
  type TestLog,
  withRoomForLengths,
} from '../otlp/encode.ts';
import { entriesOf } from './entries.ts';

/** Numbers from 0 to 1 that a seed fixes (mulberry32). */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

type Random = ReturnType<typeof randomOf>;

function pick<T>(random: Random, list: readonly T[]): T {
  return list[Math.floor(random() * list.length)] as T;
}

function hex(random: Random, digits: number): string {
  return Array.from({ length: digits }, () => Math.floor(random() * 16).toString(16)).join('');
}

const SERVICES = [
  { 'service.name': 'shop', 'host.name': 'a' },
  { 'service.name': 'prices', 'host.name': 'b' },
  { 'service.name': 'nameless host' },
];

interface Content {
  readonly service: number;
  readonly name: string;
  readonly kind: number;
  readonly attributes: Record<string, unknown>;
  readonly statusCode?: number;
  readonly statusMessage?: string;
  /** What is told of it besides: see moreOf. */
  readonly told?: number;
}

/** What spans say: accesses that went well, failed or were refused, calls, work inside, texts that JSON escapes. */
const CONTENTS: readonly Content[] = [
  ...[200, 404, 403, 500].map((status) => ({
    service: 0,
    name: 'GET /orders/{id}',
    kind: 2,
    attributes: {
      'http.request.method': 'GET',
      'http.response.status_code': status,
      'http.route': '/orders/{id}',
      'url.path': '/orders/7',
      'user.id': 'alice "quoted" ä',
      'client.address': '10.0.0.7',
    },
    ...(status === 500 && { statusCode: 2, statusMessage: 'it broke' }),
  })),
  {
    service: 0,
    name: 'SELECT orders',
    kind: 3,
    attributes: {
      'db.system.name': 'postgresql',
      'db.query.text': 'SELECT * FROM orders',
      'db.operation.name': 'SELECT',
    },
  },
  {
    service: 1,
    name: 'SELECT prices',
    kind: 3,
    attributes: { 'db.system.name': 'postgresql', 'db.query.text': 'SELECT "ä" FROM prices' },
    statusCode: 2,
    statusMessage: 'permission denied for table prices',
  },
  { service: 0, name: 'GET', kind: 3, attributes: { 'http.request.method': 'GET', 'server.address': 'prices' } },
  {
    service: 1,
    name: 'GET /prices/{id}',
    kind: 2,
    attributes: { 'http.request.method': 'GET', 'http.route': '/prices/{id}', 'url.path': '/prices/7' },
  },
  { service: 2, name: 'work', kind: 1, attributes: { 'code.function.name': 'work' } },
  {
    service: 0,
    name: 'publish',
    kind: 4,
    attributes: { 'messaging.system': 'kafka', 'messaging.destination.name': 'o' },
  },
  {
    service: 1,
    name: 'process',
    kind: 5,
    attributes: { 'messaging.system': 'kafka', 'messaging.destination.name': 'o' },
  },
];

interface Shape {
  readonly contents: readonly Content[];
  readonly parents: readonly number[];
}

function shapeOf(random: Random): Shape {
  const count = 1 + Math.floor(random() * 7);
  const contents = Array.from({ length: count }, () => ({
    ...pick(random, CONTENTS),
    ...(random() < 0.3 && { told: Math.floor(random() * 60) }),
  }));
  // -1 is none, -2 one that never comes.
  const parents = contents.map((_, at) => (at === 0 ? pick(random, [-1, -1, -1, -2]) : Math.floor(random() * at)));
  return { contents, parents: random() < 0.1 ? parents.map((parent) => (random() < 0.3 ? -2 : parent)) : parents };
}

const BASE_NS = 1_795_341_600_000_000_000n - 3_000_000n;

function timesOf(random: Random): { startNs: bigint; endNs: bigint } {
  // Some at the same time, some long, few unusual; the base is right before a full hour.
  const startNs = BASE_NS + BigInt(pick(random, [0, 1, 1_000_000, Math.floor(random() * 9e6)]));
  const endNs =
    startNs + BigInt(pick(random, [0, 1, 999, 5_000_000, Math.floor(random() * 1e7), Math.floor(random() * 1e12)]));
  if (random() < 0.02) return { startNs: 0n, endNs };
  if (random() < 0.02) return { startNs, endNs: startNs - 5n };
  return { startNs, endNs };
}

const EXCEPTION = {
  'exception.type': 'Refused',
  'exception.message': 'not on a Sunday',
  'exception.stacktrace': 'at a',
};

/** Events, links and a trace state, of which only exceptions and sampling are told by records: what this one of 60 says is the same each time. */
function moreOf(random: Random, told: number, { startNs, endNs }: { startNs: bigint; endNs: bigint }) {
  const isNew = random() < 0.05;
  const noted = isNew ? { 'cache.key': hex(random, 8) } : {};
  const raised = [EXCEPTION, { ...EXCEPTION, 'exception.type': 'Late' }, {}][told % 3];
  const events = [
    { name: 'looked up', timeNs: startNs + BigInt(Math.floor(random() * 1e6)), attributes: noted },
    { name: 'exception', timeNs: endNs, ...(raised && { attributes: raised }) },
  ];
  const links = [{ traceId: hex(random, 32), spanId: hex(random, 16), attributes: isNew ? noted : { why: 'batch' } }];
  const sampled = random() < 0.05 ? 'a=b,ot=th:c' : undefined;
  const traceState = sampled ?? ['vendor=1', `dd=s:1;p:${hex(random, 16)}`, 'a=b,ot=th:c', '', ''][told % 5];
  return { ...(told % 2 === 0 && { events }), ...(told % 4 < 2 && { links }), ...(traceState && { traceState }) };
}

function payloadOf(random: Random, shape: Shape, traceId: string): Buffer {
  const ids = shape.contents.map(() => hex(random, 16));
  const blocks = shape.contents.map(({ service, told, ...content }, at) => {
    const parent = shape.parents[at] ?? -1;
    const parentSpanId = parent === -1 ? {} : { parentSpanId: parent === -2 ? hex(random, 16) : (ids[parent] ?? '') };
    const times = timesOf(random);
    const more = told === undefined ? {} : moreOf(random, told, times);
    const span = { traceId, spanId: ids[at] ?? '', ...parentSpanId, ...content, ...times, ...more };
    const scope = delimited(1, delimited(1, 'tests'));
    const resource = delimited(1, keyValues(1, SERVICES[service] ?? {}));
    const spans = delimited(2, Buffer.concat([scope, delimited(2, spanMessage(span))]));
    return delimited(1, Buffer.concat([resource, spans]));
  });
  return Buffer.concat(blocks);
}

/** What log records of a trace say: most nothing that a record tells. */
const LOGS: readonly Partial<TestLog>[] = [
  ...Array.from({ length: 8 }, (_, at) => ({ body: `line ${at}`, attributes: { 'log.logger': 'shop', at } })),
  { body: 'told as JSON: {"user":"x"}' },
  { body: '{"audit.target.id":"7","event.action":"open"}' },
  { body: { event: { action: 'open' }, audit: { target: { id: '7' } } } },
  { body: 'somebody', attributes: { 'user.id': 'bob' } },
  { body: 'it broke', severityNumber: 17, attributes: { ...EXCEPTION } },
  { eventName: 'order.viewed', attributes: { 'event.action': 'view', 'audit.target.id': '9' } },
  { body: 'in a session', attributes: { 'session.id': 'abc' } },
];

function logsOf(random: Random, { contents }: Shape, traceId: string): Buffer {
  const all = Array.from({ length: 1 + Math.floor(random() * 3) }, (): TestLog => {
    const said = random() < 0.9 ? LOGS.slice(0, 8) : LOGS;
    // Few in another hour than the trace.
    const timeNs = BASE_NS + BigInt(random() < 0.9 ? Math.floor(random() * 2e6) : pick(random, [9e6, 36e11]));
    const both = { timeNs, observedNs: timeNs + 5n };
    const times = random() < 0.05 ? {} : pick(random, [{ timeNs }, { observedNs: timeNs }, both]);
    return { traceId, ...(random() < 0.5 && { spanId: hex(random, 16) }), ...times, ...pick(random, said) };
  });
  const [first] = all;
  const logs = random() < 0.05 && first ? [...all, first] : all;
  const attributes = random() < 0.1 ? { 'service.name': 'of no span' } : SERVICES[pick(random, contents).service];
  return encodeLogs([{ ...(attributes && { attributes }), logs }]);
}

function shardOver(frames: readonly StoredFrame[], traceUrlTemplate: string, hasForms: boolean) {
  const settings = settingsSchema.parse({ enrich: { traceUrlTemplate } });
  const { forms, ...settling } = createSettling(settings);
  const read = { frames: 0 };
  const shard = new JoinShard({
    settings: joinSettings(settings),
    ...settling,
    ...(hasForms && { forms }),
    readFrame({ offset }) {
      const frame = frames[offset] as StoredFrame;
      if (frame.signal === 'traces') read.frames++;
      return frame;
    },
    readJournal: () => {
      throw new Error('nothing is stored');
    },
    shardIndex: 0,
    shardCount: 1,
  });
  shard.endReplay(0);
  return { shard, forms, read };
}

/** All that a batch says, with records as their texts. */
function told(batches: readonly SettledBatch[]): string {
  const all = batches.map(({ traces, entries, coverage, superseded, quarantined }) => ({
    ...{ entries: entriesOf(entries), coverage, superseded, quarantined },
    traces: traces.map(({ writes, ...trace }) => ({
      ...trace,
      writes: writes.map(({ id, namespace, timestampNs, rank, mayBeElsewhere, record }) => {
        return { id, namespace, timestampNs, rank, mayBeElsewhere, text: documentText(record) };
      }),
    })),
  }));
  return JSON.stringify(all, (_, value: unknown) => {
    if (typeof value === 'bigint') return `${value}n`;
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
    return Object.fromEntries(Object.entries(value).sort(([left], [right]) => (left < right ? -1 : 1)));
  });
}

function batchesOf(shard: JoinShard, nowMs: number): SettledBatch[] {
  const batches: SettledBatch[] = [];
  for (let batch = shard.take(nowMs, 50); batch; batch = shard.take(nowMs, 50)) batches.push(batch);
  return batches;
}

/** The texts of each form, with nothing in the gaps. */
class GapsSeen {
  readonly #texts = new Map<FormGaps, Buffer>();
  records = 0;

  expectAlike(batches: readonly SettledBatch[]): void {
    for (const { form, json } of batches.flatMap(({ traces }) => traces.flatMap(({ writes }) => writes.map(toText)))) {
      const gaps = form?.gaps;
      // Texts of before a gap grew have another size.
      if (gaps === undefined || json?.length !== gaps.size) continue;
      const text = Buffer.from(json);
      for (let gap = 0; gap < gaps.ranges.length; gap += 2) text.fill(0, gaps.ranges[gap], gaps.ranges[gap + 1]);
      this.records++;
      const first = this.#texts.get(gaps);
      if (first === undefined) this.#texts.set(gaps, text);
      else expect(text.equals(first)).toBe(true);
    }
  }
}

function toText(write: RecordWrite): { readonly form: WriteForm | undefined; readonly json: Buffer | undefined } {
  return { form: write.form, json: write.json?.() };
}

/** What was measured near the traces' times on two of their services, the same for all who ask. */
class Measured {
  readonly #pressures = Array.from({ length: 4 }, () =>
    openPressure({
      settings: settingsSchema.parse({}).pressure,
      clock: { nowMs: () => Number(BASE_NS / 1_000_000n) },
      counters: new Counters(),
    }),
  );

  measure(random: Random, note: FrameNote): void {
    const timeNs = BASE_NS + BigInt(Math.floor(random() * 1e7));
    const value = pick(random, [1e6, 2.5e6, 12_345_678]);
    const service = pick(random, SERVICES);
    const metrics = [{ name: 'process.memory.usage', points: [{ timeNs, value }] }];
    const payload = encodeMetrics([{ attributes: service, metrics }]);
    for (const pressure of this.#pressures) pressure.observe(payload, { ...note, trusted: true });
  }

  show(asker: number, batches: readonly SettledBatch[]): readonly SettledBatch[] {
    for (const { traces } of batches) this.#pressures[asker]?.annotate(traces.flatMap(({ writes }) => writes));
    return batches;
  }
}

const URLS = [
  'https://traces.example/${trace_id}?"of"=${span_id}&again=${trace_id}',
  'https://traces.example/${trace_id}',
];

/** Traces of a few shapes, all of which a settle by form and a whole settle must tell alike, be the shard on another thread. */
function compare(seed: number) {
  const random = randomOf(seed);
  const shapes = Array.from({ length: 6 }, () => shapeOf(random));
  const frames: StoredFrame[] = [];
  const url = pick(random, URLS);
  const [by, whole] = [shardOver(frames, url, true), shardOver(frames, url, false)];
  const mailed = shardOver(frames, url, true);
  const [splitter, mail] = [new FrameSplitter(1), new MailWriter()];
  const notes = ['grpc', 'other'].map((sender): FrameNote => {
    const receivedNs = BASE_NS + BigInt(Math.floor(random() * 1e9));
    return { receivedNs, namespace: 'default', sender, trusted: random() < 0.8, vouches: false, peer: '10.0.0.1' };
  });
  const [packer, unpacker] = [new BatchPacker(), new BatchUnpacker()];
  const [ownGaps, crossedGaps] = [new GapsSeen(), new GapsSeen()];
  const measured = new Measured();
  const isMeasured = random() < 0.5;
  const hasLogs = seed % 2 === 0;
  const hasRoom = seed % 4 < 2;
  const post = (): void => {
    for (const spans of readMail(structuredClone(mail.take()))) mailed.shard.ingestMailed(spans);
  };
  let nowMs = 1_795_341_600_000;
  let [traces, shown, logged] = [0, 0, 0];
  for (let round = 0; round < 40; round++) {
    const add = (signal: StoredFrame['signal'], payload: Buffer): void => {
      const position = { segment: 1, offset: frames.length };
      const frame: StoredFrame = { signal, note: pick(random, notes), payload, position, length: payload.length };
      frames.push(frame);
      by.shard.ingest(frame, nowMs);
      whole.shard.ingest(frame, nowMs);
      if (signal === 'traces') mail.add(frame, splitter.spansOf(frame, 0) ?? new Uint32Array(), nowMs, false);
      else {
        post();
        mailed.shard.ingest(frame, nowMs);
      }
    };
    for (const shape of shapes) {
      const traceId = hex(random, 32);
      if (hasLogs && random() < 0.2) add('logs', logsOf(random, shape, traceId));
      const payload = payloadOf(random, shape, traceId);
      add('traces', hasRoom ? withRoomForLengths(payload) : payload);
      if (hasLogs && random() < 0.4) add('logs', logsOf(random, shape, traceId));
      traces++;
    }
    post();
    nowMs += 60_000;
    if (isMeasured && random() < 0.3) measured.measure(random, notes[0] as FrameNote);
    const given = batchesOf(by.shard, nowMs);
    const crossed = given.map((batch) => unpacker.unpack(structuredClone(packer.pack(batch))));
    const expected = told(measured.show(0, batchesOf(whole.shard, nowMs)));
    expect(told(measured.show(1, given))).toBe(expected);
    expect(told(measured.show(2, crossed))).toBe(expected);
    expect(told(measured.show(3, batchesOf(mailed.shard, nowMs)))).toBe(expected);
    shown += given.flatMap(({ traces }) => traces.flatMap(({ writes }) => writes.filter(isShownByForm))).length;
    logged += given.flatMap(formedWithLogs).length;
    ownGaps.expectAlike(given);
    crossedGaps.expectAlike(crossed);
  }
  expect(crossedGaps.records).toBe(ownGaps.records);
  const [{ settled: formed, wrong }, far] = [by.forms.counts, mailed.forms.counts];
  // Of a form's trace nothing is read, but where some of its spans say what nothing said before.
  const unread = traces - mailed.read.frames;
  return { formed, traces, shown, logged, wrong: wrong + far.wrong, formedByMail: far.settled, unread };
}

function isShownByForm({ form, record }: RecordWrite): boolean {
  return form !== undefined && record.audit.pressure !== undefined;
}

/** Traces that were settled by their form and of which log records are counted. */
function formedWithLogs({ traces, entries }: SettledBatch): string[] {
  const formed = new Set(traces.flatMap(({ traceId, writes }) => (writes.some(({ form }) => form) ? [traceId] : [])));
  return entriesOf(entries).flatMap(({ traceId, counts }) =>
    counts.logs.context > 0 && formed.has(traceId) ? [traceId] : [],
  );
}

describe('traces that say what others said', () => {
  it('get by their form the same records as by a whole settle', () => {
    const sums = { formed: 0, traces: 0, shown: 0, logged: 0, wrong: 0, formedByMail: 0, unread: 0 };
    for (let seed = 1; seed <= 16; seed++) {
      const told = compare(seed);
      for (const name of Object.keys(sums) as (keyof typeof sums)[]) sums[name] += told[name];
    }
    expect(sums.wrong).toBe(0);
    expect(sums.formed).toBeGreaterThan(sums.traces / 5);
    expect(sums.formedByMail).toBeGreaterThan(sums.traces / 5);
    expect(sums.unread).toBeGreaterThan(sums.traces / 8);
    expect(sums.shown).toBeGreaterThan(sums.traces / 20);
    expect(sums.logged).toBeGreaterThan(sums.traces / 50);
  });
});
