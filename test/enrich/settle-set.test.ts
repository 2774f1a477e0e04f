import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { LogRecord, Span, TokenVerdict } from '../../src/core/evidence.ts';
import type { Settlement } from '../../src/core/settlement.ts';
import { tokenKey } from '../../src/core/token-key.ts';
import { isSilent } from '../../src/enrich/examine.ts';
import { type LogFields, log, type SpanFields, span } from './evidence.ts';
import {
  alice,
  event,
  REFUSED,
  REFUSED_CODE,
  recordOf,
  request,
  settled,
  settlingRules,
  statement,
  text,
} from './settling.ts';

const SESSION = 'aGFzaC1vZi1hLXNlc3Npb24';
const TOKEN = [{ alg: 'RS256' }, { sub: 'frank' }]
  .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
  .concat('****')
  .join('.');
const TOKEN_KEY = tokenKey(TOKEN) ?? '';

const LINE = {
  ...{
    'audit.out_of_band': 'true',
    'event.action': 'SELECT',
    'event.category': 'database',
    'event.outcome': 'success',
  },
  ...{ 'db.system.name': 'postgresql', 'db.namespace': 'shop', 'db.user': 'shop_app' },
};
const DENIED = { 'event.outcome': 'failure', 'audit.decision': 'deny', 'event.reason': 'permission denied' };

const OPA = { 'http.request.method': 'POST', 'url.full': 'http://opa:8181/v1/data/allow' };
const TUPLE = { store_id: 's', object: 'doc:7', relation: 'viewer', user: 'user:alice' };
const TOOL = { 'gen_ai.tool.name': 'weather', 'mcp.method.name': 'tools/call' };

/** Spans of what is asked, and of what several spans tell together. */
function askingSpan(shape: number, fields: SpanFields): Span {
  if (shape === 11) return span({ ...fields, kind: 'client', attributes: OPA });
  if (shape === 12) return span({ ...fields, kind: 'server', name: 'v1/data', attributes: OPA });
  if (shape === 13) return span({ ...fields, attributes: { ...TUPLE, allowed: false } });
  if (shape === 14) return span({ ...fields, attributes: { ...TUPLE, object: 'doc:8', allowed: true } });
  if (shape === 15) return span({ ...fields, kind: 'client', attributes: TOOL });
  if (shape === 16) return span({ ...fields, kind: 'server', attributes: { ...TOOL, 'error.type': 'tool_error' } });
  if (shape === 17) return span({ ...fields, attributes: { 'graphql.operation.type': 'mutation' } });
  return request(fields, 200, { 'http.request.header.x-purpose-of-use': ['TREAT'] });
}

/** What log records are asked for, told of nothing, somebody, an access, a check, a failure or a purpose. */
const LOG_KEYS = [
  ...[
    'http.request.method',
    'http.route',
    'url.path',
    'http.response.status_code',
    'message',
    'user',
    'method',
    'status',
  ],
  ...[
    'path',
    'url',
    'host',
    'action',
    'event',
    'span_id',
    'error.type',
    'db.system.name',
    'db.query.text',
    'event.name',
  ],
  ...['server.address', 'client.address', 'rpc.method', 'rpc.system', 'service.name', 'session.id', 'baggage', 'level'],
  ...['user.id', 'user.name', 'enduser.id', 'user.roles', 'exception.message', 'exception.type', 'audit.purpose.code'],
  ...['audit.check.granted', 'audit.check.permission', 'audit.target.id', 'event.action', 'event.outcome', 'file.path'],
  ...['http.request.header.x-purpose-of-use', 'http.request.header.authorization', 'gen_ai.agent.name', 'decision'],
  ...['purpose', 'audit.purpose', 'allowed', 'store_id', 'object', 'relation', 'spantrail.tie', 'db.user'],
];

describe('any order, any repetition', () => {
  const id = fc.integer({ min: 1, max: 7 }).map(String);
  const trusted = fc.integer({ min: 0, max: 4 }).map((number) => number > 0);
  // What admission found out about the request differs from delivery to delivery.
  const sessions = fc.constantFrom(undefined, { [SESSION]: { id: 'carol' } }, { [SESSION]: { id: 'dave' } });
  const tokens = fc.constantFrom(undefined, { [TOKEN_KEY]: 'verified' }, { [TOKEN_KEY]: 'expired' } as const);
  const noted = fc
    .record({ trusted, sender: fc.constantFrom('grpc', 'http'), sessions, tokens })
    .map(({ sessions: owners, tokens: verdicts, ...rest }) => ({
      ...rest,
      ...(owners && { sessions: owners }),
      ...(verdicts && { tokens: verdicts as Readonly<Record<string, TokenVerdict>> }),
    }));
  const ms = fc.tuple(fc.nat(40), fc.nat(40));
  const answered = { 'http.response.status_code': 403, 'rpc.grpc.status_code': 7 };
  const anySpan = fc
    .record({
      id,
      parent: fc.oneof(fc.constant(''), id),
      ms,
      note: noted,
      shape: fc.nat(18),
      service: fc.constantFrom('web', 'orders'),
    })
    .map(({ shape, ...fields }) => {
      if (shape === 0) return request(fields, 200, alice);
      if (shape === 1) return request(fields, 403);
      if (shape === 2) return statement({ ...fields, ...REFUSED }, REFUSED_CODE);
      if (shape === 3) return statement(fields);
      if (shape === 4) return span({ ...fields, kind: 'client', status: [2, 'no'], attributes: answered });
      if (shape === 5) return span({ ...fields, kind: 'server', attributes: { 'rpc.system': 'grpc', ...answered } });
      if (shape === 6) return request(fields, 200, { 'session.id': SESSION });
      if (shape === 7) return request(fields, 200, { 'http.request.header.authorization': `Bearer ${TOKEN}` });
      if (shape === 8) return request(fields, 200, { 'http.request.header.baggage': 'user.id=erin' });
      if (shape === 9) return span({ ...fields, attributes: { 'gen_ai.agent.name': 'triage' } });
      if (shape >= 11) return askingSpan(shape, fields);
      return span(fields);
    });
  const anyException = fc
    .record({ span: fc.oneof(fc.constant(''), id), ms: fc.nat(1), note: noted, message: fc.constantFrom('a', 'b') })
    .map(({ message, ...fields }) => log({ ...fields, attributes: { 'exception.message': message } }));
  const anyEvent = fc
    .record({
      span: fc.oneof(fc.constant(''), id),
      ms: fc.nat(3),
      note: noted,
      own: fc.constantFrom('', 'e1', 'e2'),
      user: fc.constantFrom('alice', 'bob'),
    })
    .map(({ own, user, ...fields }) =>
      event({ ...fields, attributes: { 'event.action': 'view', 'user.id': user, ...(own && { 'event.id': own }) } }),
    );
  /** What a database tells: of a call that is named, of one above it, or of one to be found. */
  const anyLine = fc
    .record({
      span: fc.oneof(fc.constant(''), id),
      ms: fc.nat(40),
      note: noted,
      tie: fc.constantFrom('statement', 'session', 'application_name', undefined),
      own: fc.constantFrom('1', '2', '3'),
      fields: fc.constantFrom({ 'db.collection.name': 'orders' }, { 'db.collection.name': 'payroll', ...DENIED }),
    })
    .map(({ tie, own, fields, ...given }) =>
      log({ ...given, attributes: { ...LINE, ...fields, 'event.id': own, ...(tie && { 'spantrail.tie': tie }) } }),
    );
  /** What a policy engine logs, with and without what makes it an access by itself. */
  const anyDecision = fc
    .record({
      span: fc.oneof(fc.constant(''), id),
      ms: fc.nat(9),
      note: noted,
      granted: fc.boolean(),
      fields: fc.constantFrom({}, { 'audit.target.id': 'orders/7', 'event.id': 'd1' }, { 'audit.check.engine': 'opa' }),
    })
    .map(({ granted, fields, ...given }) =>
      log({
        ...given,
        attributes: {
          'audit.check.engine': 'openfga',
          'audit.check.granted': granted,
          'audit.check.rule': 'r',
          ...fields,
        },
      }),
    );
  const anyLog = fc.oneof(anyEvent, anyException, anyLine, anyDecision);
  const evidence = fc.record({ spans: fc.array(anySpan, { maxLength: 8 }), logs: fc.array(anyLog, { maxLength: 5 }) });
  /** A second delivery: later, and from another address. */
  const resent = <T extends Span | LogRecord>(piece: T): T => ({
    ...piece,
    note: { ...piece.note, receivedNs: piece.note.receivedNs + 1n, peer: '10.1.1.1' },
  });
  const shuffled = <T extends Span | LogRecord>(items: readonly T[]) =>
    fc
      .tuple(fc.shuffledSubarray([...items], { minLength: items.length }), fc.subarray([...items]))
      .map(([all, again]) => [...again.map(resent), ...all]);

  it('gives the same bytes', () => {
    const given = evidence.chain((set) => fc.tuple(fc.constant(set), shuffled(set.spans), shuffled(set.logs)));
    fc.assert(
      fc.property(given, ([set, spans, logs]) => {
        const { counts, logCounts, repeats, ...once } = settled(set.spans, set.logs);
        const again = settled(spans, logs);
        const { counts: _, logCounts: __, repeats: ___, ...repeated } = again;
        expect(text(repeated as Settlement)).toBe(text(once as Settlement));
        const [addedSpans, addedLogs] = [spans.length - set.spans.length, logs.length - set.logs.length];
        expect(again.counts).toEqual({ ...counts, duplicate: counts.duplicate + addedSpans + addedLogs });
        expect(again.logCounts).toEqual({ ...logCounts, duplicate: logCounts.duplicate + addedLogs });
        expect(again.repeats).toHaveLength(repeats.length + addedSpans + addedLogs);
        // A settle without them is the same.
        const isNew = (piece: Span | LogRecord) => !again.repeats.includes(piece);
        const lean = settled(spans.filter(isNew), logs.filter(isNew));
        expect(lean.repeats).toEqual([]);
        expect(text({ ...lean, counts, logCounts })).toBe(text({ ...again, counts, logCounts, repeats: [] }));
      }),
      { numRuns: 300 },
    );
  });

  it('says the same without the log records that say nothing', () => {
    const anyLine = fc
      .record({
        span: fc.oneof(fc.constant(''), id, fc.constant('99')),
        ms: fc.nat(40),
        note: fc.oneof({ weight: 3, arbitrary: fc.constant({}) }, noted),
        service: fc.constantFrom('web', 'elsewhere'),
        eventName: fc.constantFrom('', 'cache.missed', 'access', 'exception', 'user.login'),
        body: fc.constantFrom<NonNullable<LogFields['body']>[]>(
          ...['', 'the order was looked up', 'user=bob denied', '{"user.id":"bob"}', { a: 1 }],
          ...[
            '{"event.action":"open","audit.target.id":"7"}',
            { audit: { target: { id: '7' } } },
            { 'user.id': 'bob' },
          ],
        ),
        attributes: fc.oneof(
          fc.constantFrom({}, {}, {}, { 'session.id': SESSION }, { 'exception.type': 'E' }, alice),
          fc.dictionary(fc.constantFrom(...LOG_KEYS), fc.constantFrom('GET', '/orders/7', 'deny', 403, true), {
            maxKeys: 4,
          }),
        ),
      })
      .map(log);
    const given = fc.record({
      spans: fc.array(anySpan, { maxLength: 8 }),
      logs: fc.array(fc.oneof(anyLog, anyLine, anyLine), { maxLength: 6 }),
    });
    let silent = 0;
    fc.assert(
      fc.property(given, ({ spans, logs }) => {
        const { rank: _, counts, logCounts, repeats: __, ...all } = settled(spans, logs);
        const telling = logs.filter((piece) => !isSilent(piece, settlingRules));
        const { rank: ___, repeats, ...few } = settled(spans, telling);
        silent += logs.length - telling.length;
        expect(text({ ...few, counts, logCounts } as Settlement)).toBe(
          text({ ...all, counts, logCounts } as Settlement),
        );
        const [left, leftOfLogs] = [few.counts, few.logCounts].map(({ used, excluded }) => ({ used, excluded }));
        expect(counts).toMatchObject(left ?? {});
        expect(logCounts).toMatchObject(leftOfLogs ?? {});
      }),
      { numRuns: 500 },
    );
    expect(silent).toBeGreaterThan(150);
  });

  it('of two deliveries of one span what was found out at the first counts', () => {
    const owners = ['carol', 'dave'].map((id) => ({ sessions: { [SESSION]: { id } } }));
    const copies = owners.map((note) => request({ id: '1', note }, 200, { 'session.id': SESSION }));
    const [first, second] = copies.map((piece, index) => ({
      ...piece,
      note: { ...piece.note, receivedNs: piece.note.receivedNs + BigInt(index) },
    }));
    if (!first || !second) throw new Error('two copies');
    for (const spans of [
      [first, second],
      [second, first],
    ]) {
      expect(settled(spans, []).records[0]?.record.user?.id).toBe('carol');
    }
    // Two requests of one moment.
    expect(text(settled(copies, []))).toBe(text(settled(copies.toReversed(), [])));
  });

  it('ranks a larger set higher, counts every piece, and accounts for every id that a smaller set published', () => {
    const given = evidence.chain((set) => fc.tuple(fc.constant(set), fc.subarray(set.spans), fc.subarray(set.logs)));
    fc.assert(
      fc.property(given, ([set, spans, logs]) => {
        const all = settled(set.spans, set.logs);
        const some = settled(spans, logs);
        const ids = new Set(all.records.map((record) => record.id));
        for (const { record } of all.records) expect(JSON.parse(JSON.stringify(record))).toStrictEqual(record);
        expect(ids.size).toBe(all.records.length);
        for (const { id: published } of some.records) {
          // Without any access left there is none that could stand in its place.
          if (!ids.has(published) && ids.size > 0) expect(ids).toContain(all.superseded.get(published));
        }
        for (const gone of all.superseded.keys()) expect(ids).not.toContain(gone);
        if (all.rank === some.rank) {
          const { counts, logCounts, repeats } = all;
          expect(text({ ...some, counts, logCounts, repeats })).toBe(text(all));
        } else expect(all.rank > some.rank).toBe(true);
        const { used, context, excluded, duplicate } = all.counts;
        expect(used + context + excluded + duplicate).toBe(set.spans.length + set.logs.length);
        expect(Math.min(used, context, excluded, duplicate)).toBeGreaterThanOrEqual(0);
      }),
      { numRuns: 500 },
    );
  });
});

describe('traces of any size', () => {
  it('settles a chain of 5,000 accesses and a fan of 20,000', () => {
    const chain = Array.from({ length: 5000 }, (_, index) => {
      const place = { id: String(index + 1), parent: index === 0 ? '' : String(index) };
      return index % 10 === 0 ? request(place, 403) : span(place);
    });
    const deep = settled(chain);
    expect(deep.records).toHaveLength(500);
    expect(deep.records.filter(({ record }) => record.audit.entry)).toHaveLength(1);
    expect(deep.records.every(({ record }) => (record.audit.path?.length ?? 0) <= 64)).toBe(true);
    const fan = Array.from({ length: 20_000 }, (_, index) =>
      (index % 10 === 0 ? statement : span)({ id: String(index + 2), parent: '1' }),
    );
    expect(recordOf(settled([request({ id: '1' }), ...fan]), 'GET').audit.db?.count).toBe(2_000);
  });

  it('has nothing to say of nothing', () => {
    expect(settled([])).toMatchObject({ records: [], counts: { used: 0, context: 0, excluded: 0, duplicate: 0 } });
  });
});
