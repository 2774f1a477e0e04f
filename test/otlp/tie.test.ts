import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { FrameNote } from '../../src/core/evidence.ts';
import { createTie, TIE_ATTRIBUTE, tieLogs } from '../../src/otlp/tie.ts';
import { DatabaseSessions } from '../../src/otlp/tie-sessions.ts';
import { sessionLineIn, traceNamedIn } from '../../src/otlp/tie-text.ts';
import { encodeLogs, type TestLog } from './encode.ts';
import { ORACLE, oracleDecode, type Plain } from './oracle.ts';
import { chooser, encodeUnusually } from './unusual.ts';

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const SPAN = '00f067aa0ba902b7';
const PARENT = `00-${TRACE}-${SPAN}-01`;
const OTHER = `00-${'c'.repeat(32)}-${'d'.repeat(16)}-01`;
const NOTE: FrameNote = { receivedNs: 0n, namespace: 'd', sender: 'grpc', trusted: true, vouches: false, peer: '' };

interface LineFields {
  readonly message?: string;
  readonly line?: number;
  readonly session?: string;
  readonly transaction?: string;
  readonly application?: string;
}

/** A line of PostgreSQL 15's jsonlog. */
function jsonLine({ message = 'AUDIT: SESSION,1,1,READ,SELECT,,,select 1,<none>', ...given }: LineFields): string {
  return JSON.stringify({
    ...{ timestamp: '2026-11-22 17:03:36.163 UTC', user: 'shop_app', dbname: 'shop', pid: 3188 },
    ...{ remote_host: '127.0.0.1', remote_port: 56534, session_id: given.session ?? '6b032068.c74' },
    ...{ line_num: given.line ?? 1, ps: 'SELECT', session_start: '2026-11-22 17:03:36 UTC' },
    ...{ vxid: given.transaction ?? '3/10', txid: 0, error_severity: 'LOG', message },
    ...{ application_name: given.application ?? 'shop', backend_type: 'client backend', query_id: 0 },
  });
}

const audited = (comment: string) => `AUDIT: SESSION,1,1,READ,SELECT,,,"select * from orders /*${comment}*/",<none>`;

describe('what a text names', () => {
  const statement = { traceId: TRACE, spanId: SPAN, tie: 'statement' };
  const text = { traceId: TRACE, spanId: SPAN, tie: 'text' };
  const application = { traceId: TRACE, spanId: SPAN, tie: 'application_name' };
  const csv = (message: string, name: string) =>
    `2026-11-22 17:03:36.163 UTC,"shop_app","shop",3188,"127.0.0.1:56534",6b032068.c74,1,"SELECT",2026-11-22 17:03:36 UTC,3/10,0,LOG,00000,"${message}",,,,,,,,,"${name}","client backend",,0`;
  const plain = (message: string, name = 'shop') =>
    `2026-11-22 17:03:36.163 UTC [3188] user=shop_app db=shop host=127.0.0.1 app=${name} session=6b032068.c74 line=1 vxid=3/10 state=00000 LOG:  ${message}`;
  it.each<[string, string, object | undefined]>([
    ['a comment', `select 1 /*traceparent='${PARENT}'*/`, statement],
    ['a comment among others', `select 1 /*action='%2Forders',traceparent='${PARENT}',tracestate='a%3D1'*/`, statement],
    ['the last of two comments', `select 1 /*traceparent='${OTHER}'*/ /*traceparent='${PARENT}'*/`, statement],
    ['a comment in front', `/*traceparent='${PARENT}'*/ select 1`, statement],
    ['a comment in jsonlog', jsonLine({ message: audited(`traceparent='${PARENT}'`) }), statement],
    ['a comment in csvlog', csv(audited(`traceparent='${PARENT}'`).replaceAll('"', '""'), 'shop'), statement],
    ['a comment in a text log', plain(audited(`traceparent='${PARENT}'`)), statement],
    ['a name in jsonlog', jsonLine({ application: PARENT }), application],
    ['a name in csvlog', csv('AUDIT: SESSION,1,1,READ,SELECT,,,select 1,<none>', PARENT), application],
    ['a name in a text log', plain('AUDIT: SESSION,1,1,READ,SELECT,,,select 1,<none>', PARENT), application],
    [
      'a comment before a name',
      jsonLine({ message: audited(`traceparent='${PARENT}'`), application: OTHER }),
      statement,
    ],
    ['a name before a field', `{"application_name":"${PARENT}","traceparent":"${OTHER}"}`, application],
    ['a JSON field', `{"level":"info","traceparent":"${PARENT}"}`, text],
    ['JSON within JSON', `{"log":"{\\"trace_id\\":\\"${TRACE}\\",\\"span_id\\":\\"${SPAN}\\"}"}`, text],
    ['ids in logfmt', `level=info trace_id=${TRACE} span_id=${SPAN} msg=done`, text],
    ['ids of ECS', `{"trace.id":"${TRACE}","span.id":"${SPAN}"}`, text],
    ['ids of nested ECS', `{"trace":{"id":"${TRACE}"},"span": {"id": "${SPAN}"}}`, text],
    ['ids in camel case', `{"traceId":"${TRACE}","spanId":"${SPAN}"}`, text],
    ['ids as Python writes them', `[otelTraceID=${TRACE} otelSpanID=${SPAN}] done`, text],
    ['ids in capitals', `traceId: ${TRACE.toUpperCase()}, spanId: ${SPAN.toUpperCase()}`, text],
    ['no span', `trace_id=${TRACE}`, { ...text, spanId: '' }],
    ['zeros, then a trace', `trace_id=${'0'.repeat(32)} trace_id=${TRACE}`, { ...text, spanId: '' }],
    ['zeros', `trace_id=${'0'.repeat(32)} traceparent=00-${'0'.repeat(32)}-${SPAN}-00`, undefined],
    ['an id that is too short', `trace_id=${TRACE.slice(1)}`, undefined],
    ['an id that is too long', `trace_id=${TRACE}0`, undefined],
    ['a traceparent of no field', `took ${PARENT} of the shelf`, undefined],
    ['a text of an application with a column', `queue: ${PARENT} done`, undefined],
    ['no version', `traceparent=ff-${TRACE}-${SPAN}-01`, undefined],
    ['a stack trace', 'exception.stacktrace=at trace (trace.js:1)', undefined],
  ])('%s', (_, given, expected) => expect(traceNamedIn(given)).toEqual(expected));

  it('is found in a megabyte of near misses without going over it again and again', () => {
    const near = `traceparent='${'00-'.repeat(20)}' /* trace_id="`.repeat(20_000);
    expect(traceNamedIn(`${near} /*traceparent='${PARENT}'*/`)).toEqual(statement);
  });

  it.each([
    ['jsonlog', jsonLine({ line: 7 })],
    ['csvlog', csv('AUDIT: x', 'shop').replace('c74,1,', 'c74,7,')],
    ['a text log', plain('AUDIT: x').replace('line=1', 'line=7')],
    ['fields', 'vxid=3/10\nline_num=7\nsession_id=6b032068.c74\n'],
  ])('tells the session: %s', (_, given) =>
    expect(sessionLineIn(given)).toEqual({ session: '6b032068.c74', line: 7, transaction: '3/10' }),
  );
});

/** Of each log record: its trace, span and tie. */
function tiesIn(payload: Buffer): (readonly [string, string, string | undefined])[] {
  return recordsIn(payload).map((record) => {
    const attributes = (record['attributes'] ?? []) as { key: string; value: { stringValue?: string } }[];
    const hex = (name: string) => Buffer.from((record[name] as Uint8Array | undefined) ?? []).toString('hex');
    return [hex('traceId'), hex('spanId'), attributes.findLast(({ key }) => key === TIE_ATTRIBUTE)?.value.stringValue];
  });
}

function recordsIn(payload: Buffer): Plain[] {
  const list = (value: unknown, name: string) => ((value as Plain)[name] ?? []) as Plain[];
  return list(oracleDecode(ORACLE.logs, payload), 'resourceLogs')
    .flatMap((block) => list(block, 'scopeLogs'))
    .flatMap((block) => list(block, 'logRecords'));
}

const logs = (...records: TestLog[]) => encodeLogs([{ attributes: { 'host.name': 'db1' }, logs: records }]);

describe('tied log records', () => {
  it('stay the same bytes where none names a trace, or all have one', () => {
    for (const payload of [
      logs({ body: 'GET /trace HTTP/1.1' }, { body: 'x', attributes: { 'exception.stacktrace': 'at trace' } }),
      logs({ traceId: TRACE, body: `trace_id=${'c'.repeat(32)}` }),
      logs({ body: 'trace_id=unknown' }),
      Buffer.alloc(0),
    ]) {
      expect(tieLogs(payload).payload).toBe(payload);
    }
  });

  it('get the ids that they name, each by itself', () => {
    const payload = encodeLogs([
      { logs: [{ body: 'nothing' }, { body: `trace_id=${TRACE} span_id=${SPAN}` }] },
      {
        logs: [
          { body: { request: { traceparent: PARENT } } },
          { attributes: { 'db.query.text': `select 1 /*traceparent='${PARENT}'*/` } },
          { traceId: 'e'.repeat(32), spanId: 'f'.repeat(16), body: `trace_id=${TRACE}` },
          { traceId: '00'.repeat(16), spanId: 'f'.repeat(16), body: `trace_id=${TRACE}` },
          { traceId: 'abcd', attributes: { application_name: PARENT } },
        ],
      },
    ]);
    const tied = tieLogs(payload);
    expect(tiesIn(tied.payload)).toEqual([
      ['', '', undefined],
      [TRACE, SPAN, 'text'],
      [TRACE, SPAN, 'text'],
      [TRACE, SPAN, 'statement'],
      ['e'.repeat(32), 'f'.repeat(16), undefined],
      [TRACE, 'f'.repeat(16), 'text'],
      [TRACE, SPAN, 'application_name'],
    ]);
    expect(tied.ties).toEqual(['text', 'text', 'statement', 'text', 'application_name']);
  });

  it('are not looked for in what cannot be decoded', () => {
    const broken = Buffer.concat([Buffer.from([0x2a, 4, 0x0a, 0x7f]), Buffer.from('tr')]);
    const payload = logs({ body: `trace_id=${TRACE}` });
    expect(tieLogs(Buffer.concat([payload, broken])).payload.length).toBeGreaterThan(0);
  });
});

describe('lines of a database session', () => {
  const tied = (line: LineFields = {}) => ({
    body: jsonLine({ ...line, message: audited(`traceparent='${PARENT}'`) }),
  });
  const prepared = (line: LineFields) => ({ body: jsonLine(line) });

  it.each<[string, TestLog, LineFields, string | undefined]>([
    ['the same transaction', tied({ line: 3 }), { line: 60 }, 'transaction'],
    ['the same transaction, before', tied({ line: 3 }), { line: 2 }, 'transaction'],
    ['the session, right behind', tied({ line: 3 }), { line: 4, transaction: '3/11' }, 'session'],
    ['the session, far behind', tied({ line: 3 }), { line: 20, transaction: '3/11' }, undefined],
    ['the session, before', tied({ line: 3 }), { line: 2, transaction: '3/9' }, undefined],
    ['another session', tied({ line: 3 }), { line: 4, session: '6b032068.c75' }, undefined],
  ])('%s', (_, first, second, expected) => {
    const together = createTie()(logs(prepared(second), first), NOTE);
    expect(tiesIn(together)[0]?.[2]).toBe(expected);
    const tie = createTie();
    tie(logs(first), NOTE);
    expect(tiesIn(tie(logs(prepared(second)), NOTE))).toEqual([
      expected === undefined ? ['', '', undefined] : [TRACE, '', expected],
    ]);
  });

  it('of another server, another namespace or a sender without trust tie nothing', () => {
    const tie = createTie();
    tie(logs(tied({ line: 1 })), NOTE);
    const second = prepared({ line: 2 });
    const elsewhere = encodeLogs([{ attributes: { 'host.name': 'db2' }, logs: [second] }]);
    expect(tie(elsewhere, NOTE)).toBe(elsewhere);
    for (const note of [
      { ...NOTE, namespace: 'other' },
      { ...NOTE, trusted: false },
    ]) {
      const payload = logs(second);
      expect(tie(payload, note)).toBe(payload);
    }
    expect(tiesIn(tie(logs(second), NOTE))[0]?.[2]).toBe('transaction');
  });

  it('are tied as before when they come again', () => {
    const tie = createTie();
    const first = () => logs(tied({ line: 1, transaction: '3/1' }), prepared({ line: 2, transaction: '3/2' }));
    const before = tiesIn(tie(first(), NOTE));
    for (let line = 3; line < 8; line++) {
      const message = audited(`traceparent='${OTHER}'`);
      tie(logs({ body: jsonLine({ line, transaction: `3/${line}`, message }) }), NOTE);
    }
    expect(tiesIn(tie(first(), NOTE))).toEqual(before);
  });

  it('find the ties before them, however many lines of their session come at once', () => {
    const lines = Array.from({ length: 2000 }, (_, index): TestLog => {
      const given = { line: index + 1, transaction: `3/${index}` };
      const trace = (index + 1).toString(16).padStart(32, '0');
      const message = audited(`traceparent='00-${trace}-${SPAN}-01'`);
      return { body: index % 2 === 0 ? jsonLine({ ...given, message }) : jsonLine(given) };
    });
    const ties = tiesIn(createTie()(logs(...lines), NOTE));
    for (const [index, [traceId, , tie]] of ties.entries()) {
      const named = index % 2 === 0 ? index + 1 : index;
      expect([Number.parseInt(traceId, 16), tie]).toEqual([named, index % 2 === 0 ? 'statement' : 'session']);
    }
  });

  const learn = (sessions: DatabaseSessions, session: string, line: number) =>
    sessions.tie('db', [{ session, line, transaction: `${line}`, traceId: TRACE }]);
  const ask = (sessions: DatabaseSessions, session: string, line: number) =>
    sessions.tie('db', [{ session, line, transaction: '' }])[0];

  it('are remembered of so many sessions only', () => {
    const sessions = new DatabaseSessions();
    for (let number = 0; number < 60_000; number++) {
      learn(sessions, `s${number}`, 1);
      if (number % 1000 === 0) for (let line = 2; line < 200; line++) learn(sessions, 's0', line + number);
    }
    expect(sessions.size).toBeLessThanOrEqual(50_000);
    expect(sessions.size).toBeGreaterThan(49_000);
    expect(ask(sessions, 's1', 2)).toBeUndefined();
    expect(ask(sessions, 's0', 59_200)).toEqual({ tie: 'session', traceId: TRACE });
    expect(ask(sessions, 's59999', 2)).toEqual({ tie: 'session', traceId: TRACE });
  });

  it('are known again after they were saved', () => {
    const sessions = new DatabaseSessions();
    for (let line = 1; line < 200; line++) learn(sessions, 's', line);
    const again = new DatabaseSessions();
    again.load([...(JSON.parse(JSON.stringify(sessions.save())) as unknown[]), 7, [7], ['t', [1], 'x']]);
    expect(again.size).toBe(sessions.size);
    expect(ask(again, 's', 200)).toEqual(ask(sessions, 's', 200));
    expect(ask(again, 't', 2)).toBeUndefined();
  });
});

const body = fc.oneof(
  fc.constant(`x trace_id=${TRACE} span_id=${SPAN}`),
  fc.constant(`select 1 /*traceparent='${PARENT}'*/`),
  fc.constant('trace_id=none'),
  fc.string(),
);
const record = fc.record(
  {
    timeUnixNano: fc.constant('7'),
    body: body.map((stringValue) => ({ stringValue })),
    attributes: fc
      .array(body, { maxLength: 2 })
      .map((texts) => texts.map((stringValue, index) => ({ key: `note${index}`, value: { stringValue } }))),
    traceId: fc.constantFrom(Buffer.alloc(0), Buffer.alloc(16), Buffer.alloc(16, 9)),
    spanId: fc.constantFrom(Buffer.alloc(0), Buffer.alloc(8, 9)),
    eventName: fc.constant('e'),
  },
  { requiredKeys: [] },
);
const request = fc.array(fc.array(fc.array(record, { maxLength: 4 }), { maxLength: 3 }), { maxLength: 3 });

describe('any payload, however it is encoded', () => {
  it('keeps all that it says and gets ids only where it had none', () => {
    fc.assert(
      fc.property(request, fc.nat(), (blocks, seed) => {
        const message = {
          resourceLogs: blocks.map((scopes) => ({
            resource: { attributes: [{ key: 'k', value: { stringValue: 'trace_id' } }] },
            scopeLogs: scopes.map((logRecords) => ({ logRecords })),
            schemaUrl: 's',
          })),
        };
        const payload = encodeUnusually(ORACLE.logs, message, chooser(seed));
        const { payload: tied, ties } = tieLogs(payload);
        const [before, after] = [recordsIn(payload), recordsIn(tied)];
        expect(after.length).toBe(before.length);
        let changed = 0;
        for (const [index, given] of before.entries()) {
          const got = { ...after[index] };
          const hadTrace = Buffer.from((given['traceId'] as Uint8Array | undefined) ?? []).includes(9);
          const attributes = (got['attributes'] ?? []) as { key: string }[];
          const isTied = attributes.at(-1)?.key === TIE_ATTRIBUTE;
          const said = JSON.stringify([given['body'], given['attributes']]);
          expect(isTied).toBe(!hadTrace && said.includes(TRACE));
          changed += Number(isTied);
          if (!isTied) {
            expect(got).toEqual(given);
            continue;
          }
          expect(Buffer.from(got['traceId'] as Uint8Array).toString('hex')).toBe(TRACE);
          const rest = {
            ...got,
            traceId: given['traceId'],
            spanId: given['spanId'],
            attributes: attributes.slice(0, -1),
          };
          expect(rest).toEqual({ ...given, attributes: given['attributes'] ?? [] });
        }
        expect(ties.length).toBe(changed);
        if (changed === 0) expect(tied).toBe(payload);
      }),
      { numRuns: 500 },
    );
  });

  it('never makes it throw', () => {
    const valid = logs({ body: `trace_id=${TRACE}` }, { body: jsonLine({ application: PARENT }) });
    fc.assert(
      fc.property(fc.nat(valid.length - 1), fc.nat(255), (at, byte) => {
        const payload = Buffer.from(valid);
        payload[at] = byte;
        createTie()(payload, NOTE);
      }),
      { numRuns: 1000 },
    );
  });
});
