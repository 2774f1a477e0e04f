import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { settingsSchema } from '../../src/config/schema.ts';
import { ROW, ROW_WORDS, type SpanRows } from '../../src/core/span-rows.ts';
import { FINDS_NOTHING } from '../../src/otlp/credential-finder.ts';
import { KnownParts } from '../../src/otlp/known-parts.ts';
import { compileMask, maskSecrets } from '../../src/otlp/mask.ts';
import { scanTraces } from '../../src/otlp/scan.ts';
import { SpanWalk } from '../../src/otlp/span-walk.ts';
import { delimited, encodeTraces, spanMessage, withRoomForLengths } from './encode.ts';
import { ORACLE, oracleDecode } from './oracle.ts';
import { chooser, encodeUnusually } from './unusual.ts';

const { receive } = settingsSchema.parse({});
const newMask = () => compileMask({ attributes: receive.maskAttributes, queryParameters: receive.maskQueryParameters });
const MASK = newMask();

const id = (bytes: number) => fc.constantFrom('a1', 'b2', '00').map((byte) => byte.repeat(bytes));
const text = fc.constantFrom('alice', '/orders/17', '/a?token=abc', 'https://bob:pw@h/x', 'DB_PASSWORD=hunter2', '');
const attributes = fc.dictionary(fc.constantFrom('a', 'user.id', 'password', 'url.full', 'db.query.text'), text, {
  maxKeys: 3,
});
const events = fc.array(fc.record({ name: text, timeNs: fc.constantFrom(5n, 6n), attributes }), { maxLength: 2 });
const links = fc.array(fc.record({ traceId: id(16), spanId: id(8), attributes }), { maxLength: 2 });
const span = fc.record(
  {
    ...{ traceId: id(16), spanId: id(8), parentSpanId: fc.oneof(id(8), fc.constant('')), name: text },
    ...{ kind: fc.constantFrom(0, 2), startNs: fc.constantFrom(1n, 2n), endNs: fc.constantFrom(3n, 4n), attributes },
    ...{ statusMessage: text, events, links, flags: fc.constantFrom(0, 257) },
    traceState: fc.constantFrom('', 'vendor=1', 'ot=th:c'),
  },
  { requiredKeys: ['traceId', 'spanId'] },
);
const request = fc
  .array(fc.record({ attributes, scope: fc.record({ name: text }), spans: fc.array(span, { maxLength: 4 }) }), {
    maxLength: 3,
  })
  .map((resources) => encodeTraces(resources));

/** The payload as it is, with one bit changed, cut short, and written in another legal way. */
function variants(payload: Buffer, seed: number): Buffer[] {
  const at = Math.abs(seed) % Math.max(1, payload.length);
  const other = Buffer.from(payload);
  if (other.length > 0) other[at] = (other[at] as number) ^ (1 << (Math.abs(seed) % 8));
  const unusual = encodeUnusually(ORACLE.traces, oracleDecode(ORACLE.traces, payload), chooser(seed));
  return [payload, other, payload.subarray(0, at), unusual, withRoomForLengths(payload)];
}

function itemsOf({ count, words }: SpanRows): object[] {
  return Array.from({ length: count }, (_, row) => {
    const word = (of: number) => words[row * ROW_WORDS + of];
    return {
      ...{ itemStart: word(ROW.itemStart), itemEnd: word(ROW.itemEnd), traceIdAt: word(ROW.traceIdAt) },
      ...{ spanIdAt: word(ROW.spanIdAt), parentSpanIdAt: word(ROW.parentIdAt) },
    };
  });
}

/** Takes secrets out as admission does. */
function admit(walk: SpanWalk, payload: Buffer, mask = MASK): { masked: number; rows: SpanRows } {
  const walked = walk.walk(payload);
  const masked = maskSecrets(payload, 'traces', mask, FINDS_NOTHING, walked.rows);
  return { masked, rows: walk.keep(payload, walked, masked > 0) };
}

describe('one walk over spans', () => {
  it('finds what the scan finds, whatever it knows', () => {
    const known = new SpanWalk(new KnownParts());
    const plain = new SpanWalk();
    fc.assert(
      fc.property(request, fc.integer(), (payload, seed) => {
        for (const bytes of variants(payload, seed)) {
          const expected: object[] = [];
          const result = scanTraces(bytes, (item) => expected.push({ ...item }));
          for (const { rows, result: found } of [plain.walk(bytes), known.walk(bytes), known.walkMasked(bytes)]) {
            expect(found).toEqual(result);
            expect(itemsOf(rows)).toEqual(expected);
          }
        }
      }),
      { numRuns: 300 },
    );
  });

  it('leaves secrets to be found as without it, and knows none of them', () => {
    const walk = new SpanWalk(new KnownParts());
    const mask = newMask();
    fc.assert(
      fc.property(request, fc.integer(), (payload, seed) => {
        for (const bytes of [...variants(payload, seed), payload, payload]) {
          if (!scanTraces(bytes).ok) continue;
          const expected = Buffer.from(bytes);
          const masked = maskSecrets(expected, 'traces', MASK);
          const sent = Buffer.from(bytes);
          expect(admit(walk, sent, mask).masked).toBe(masked);
          expect(sent.equals(expected)).toBe(true);
          const { rows } = walk.walk(Buffer.from(bytes));
          if (masked > 0) expect(rows.isClean).toBe(false);
          for (const [row, part] of rows.parts.entries()) {
            if (part === undefined) continue;
            const start = rows.words[row * ROW_WORDS + ROW.itemStart] as number;
            const end = rows.words[row * ROW_WORDS + ROW.itemEnd] as number;
            expect(expected.subarray(start, end).equals(bytes.subarray(start, end))).toBe(true);
          }
        }
      }),
      { numRuns: 300 },
    );
  });
});

const SPAN = {
  ...{ traceId: 'a1'.repeat(16), spanId: 'b2'.repeat(8), parentSpanId: 'c3'.repeat(8), name: 'GET', kind: 2 },
  ...{ startNs: 1n, endNs: 2n, attributes: { 'http.route': '/a', 'thread.id': 7 } },
};

describe('what is known of parts', () => {
  const partOf = (walk: SpanWalk, changes: object, service = 'shop') =>
    admit(walk, encodeTraces([{ attributes: { 'service.name': service }, spans: [{ ...SPAN, ...changes }] }])).rows
      .parts[0];

  it('is one thing where ids and times differ, from the second time on, and is clean from the third', () => {
    const walk = new SpanWalk(new KnownParts());
    expect(partOf(walk, {})).toBeUndefined();
    expect(partOf(walk, {})).toBeUndefined();
    const part = partOf(walk, { startNs: 5n, endNs: 7n, traceId: 'd4'.repeat(16) });
    expect(part).toMatchObject({ isClean: false });
    expect(partOf(walk, { spanId: 'e5'.repeat(8), flags: 1 })).toBe(part);
    expect(part?.isClean).toBe(true);
  });

  it('is one thing where only the times of events, the ids of links and what a trace state says to others differ', () => {
    const walk = new SpanWalk(new KnownParts());
    const told = (byte: string, timeNs: bigint) => {
      const [traceId, spanId] = [byte.repeat(16), byte.repeat(8)];
      const events = [{ name: 'retry', timeNs, attributes: { a: 1 } }, { timeNs }, { name: 'no time' }];
      const links = [
        { traceId, spanId, attributes: { b: 2 } },
        { traceId, spanId },
      ];
      return partOf(walk, { events, links, traceState: `dd=p:${byte}` });
    };
    for (const byte of ['11', '22']) expect(told(byte, 5n)).toBeUndefined();
    const part = told('33', 6n);
    expect(part).toBeDefined();
    expect(told('44', 7n)).toBe(part);
  });

  it('is one thing where senders leave room for lengths, and statements are long', () => {
    const walk = new SpanWalk(new KnownParts());
    const told = (timeNs: bigint) => {
      const attributes = { 'db.query.text': `SELECT ${'a, '.repeat(2000)}b`, 'http.route': '/a' };
      const span = { ...SPAN, startNs: timeNs, attributes, events: [{ name: 'retry', timeNs, attributes: { a: 1 } }] };
      return admit(walk, withRoomForLengths(encodeTraces([{ spans: [span] }]))).rows.parts[0];
    };
    for (const timeNs of [5n, 6n]) expect(told(timeNs)).toBeUndefined();
    const part = told(7n);
    expect(part).toBeDefined();
    expect(told(8n)).toBe(part);
    expect(part?.isClean).toBe(true);
  });

  it.each<[string, object, string?]>([
    ['what an event says', { events: [{ name: 'retry', timeNs: 5n, attributes: { a: 2 } }] }],
    ['an event that has a time', { events: [{ name: 'retry', timeNs: 5n }] }],
    ['a link', { links: [{ traceId: 'a7'.repeat(16), spanId: 'a7'.repeat(8) }] }],
    ['what a link says', { links: [{ traceId: 'a7'.repeat(16), spanId: 'a7'.repeat(8), attributes: { a: 1 } }] }],
    ['an attribute', { attributes: { 'http.route': '/b', 'thread.id': 7 } }],
    ['the order of attributes', { attributes: { 'thread.id': 7, 'http.route': '/a' } }],
    ['the name', { name: 'PUT' }],
    ['the kind', { kind: 3 }],
    ['the status', { statusCode: 2 }],
    ['that it is a root', { parentSpanId: '' }],
    ['the resource', {}, 'prices'],
  ])('is another where %s differs', (_what, changes, service) => {
    const walk = new SpanWalk(new KnownParts());
    for (let time = 0; time < 4; time++) partOf(walk, {});
    for (let time = 0; time < 4; time++) partOf(walk, changes, service);
    const part = partOf(walk, {});
    expect(part).toBeDefined();
    expect(partOf(walk, changes, service)).toBeDefined();
    expect(partOf(walk, changes, service)).not.toBe(part);
  });

  it('is nothing where a trace state tells of sampling', () => {
    const walk = new SpanWalk(new KnownParts());
    for (const traceState of ['ot=th:c', 'a=b,ot=p:1', 'x=not=1']) {
      for (let time = 0; time < 4; time++) expect(partOf(walk, { traceState })).toBeUndefined();
    }
  });

  it('is nothing where a resource is given in two parts', () => {
    const walk = new SpanWalk(new KnownParts());
    const span = delimited(2, delimited(2, spanMessage(SPAN)));
    const twice = Buffer.concat([delimited(1, Buffer.alloc(0)), span, delimited(1, Buffer.alloc(0)), span]);
    for (let time = 0; time < 5; time++) {
      expect(admit(walk, delimited(1, twice)).rows.parts).toEqual([undefined, undefined]);
    }
  });

  it('is kept of many services that say the same', () => {
    const walk = new SpanWalk(new KnownParts());
    const services = Array.from({ length: 300 }, (_, index) => `service-${index}`);
    for (let time = 0; time < 4; time++) for (const service of services) partOf(walk, {}, service);
    const parts = new Set(services.map((service) => partOf(walk, {}, service)));
    expect(parts.size).toBe(300);
    expect(parts.has(undefined)).toBe(false);
  });

  it('stays right where there is little room, and what comes all the time stays', () => {
    const walk = new SpanWalk(new KnownParts(16_384));
    for (let time = 0; time < 4; time++) partOf(walk, {});
    const part = partOf(walk, {});
    for (let index = 0; index < 500; index++) {
      for (let time = 0; time < 3; time++) {
        const given = { attributes: { 'http.route': `/${index}/${'r'.repeat(100)}` } };
        const other = partOf(walk, given);
        expect(other).not.toBe(part);
        expect(partOf(walk, {})).toBe(part);
      }
    }
  });
});
