import { parse as parseCsv } from 'csv-parse/sync';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { instantOf } from '../../../src/access/event-times.ts';
import { compileMappings } from '../../../src/access/mappings/compile.ts';
import { readCsvRow } from '../../../src/access/mappings/csv.ts';
import type { Mapping } from '../../../src/access/mappings/mapping.ts';
import { compilePath, type Document } from '../../../src/access/mappings/path.ts';
import { compilePattern } from '../../../src/access/mappings/pattern.ts';
import { compilePrefix, hasLineNames, readPostgresLine } from '../../../src/access/mappings/postgres-line.ts';
import { recogniseLog } from '../../../src/access/recognise.ts';
import { compileRules } from '../../../src/access/rules.ts';
import { DEFAULT_ACCESS_SETTINGS } from '../../../src/access/settings.ts';
import type { LogRecord } from '../../../src/core/evidence.ts';
import { accessOf, log, type Values } from '../evidence.ts';

const DOOR: Mapping = {
  name: 'door',
  when: { type: 'badge', door: '*' },
  fields: { 'event.action': 'enter', 'audit.target.id': '${door}' },
};

function door(more: Partial<Mapping>): Mapping {
  return { ...DOOR, ...more, fields: { ...DOOR.fields, ...more.fields } };
}

function rulesOf(...mappings: Mapping[]) {
  return compileRules({ ...DEFAULT_ACCESS_SETTINGS, mappings });
}

function lineOf(body: LogRecord['body'], values: Values = {}, parts: Partial<LogRecord> = {}): LogRecord {
  return log(values, { body, traceId: '', spanId: '', ...parts });
}

const BADGE = { type: 'badge', door: 'server-room', holder: { id: 'u7', groups: ['staff', 'night'] }, seconds: '1.5' };

function badge(mapping: Mapping, more: object = {}, parts: Partial<LogRecord> = {}) {
  return accessOf(lineOf(JSON.stringify({ ...BADGE, ...more }), {}, parts), rulesOf(mapping));
}

describe('paths', () => {
  const document: Document = {
    a: { b: 1, 'c.d': 2 },
    'a.b': 3,
    list: [{ n: 'x' }, { n: null }, { n: 'y' }],
    empty: null,
  };
  it.each([
    ['a.c.d', 2],
    ['a.b', 3],
    ['list.n', ['x', 'y']],
    ['list.2.n', 'y'],
    ['list.7.n', undefined],
    ['empty', undefined],
    ['a.b.c', undefined],
    ['constructor', undefined],
    ['a.toString', undefined],
    ['', undefined],
  ])('%s', (path, expected) => expect(compilePath(path)(document)).toEqual(expected));
});

describe('templates', () => {
  it.each<[string, Partial<Mapping>, object]>([
    ['fall back in order', { fields: { 'user.id': ['${nobody}', '${holder.id}', 'last'] } }, { actor: { id: 'u7' } }],
    ['need all their values', { fields: { 'event.reason': ['${holder.id} ${nobody}', 'other'] } }, { reason: 'other' }],
    [
      'keep lists',
      { fields: { 'user.id': 'u', 'user.roles': '${holder.groups}' } },
      { actor: { roles: ['staff', 'night'] } },
    ],
    ['join lists', { fields: { 'event.reason': { from: '${holder.groups}', join: '+' } } }, { reason: 'staff+night' }],
    [
      'map values',
      { fields: { 'event.outcome': { from: '${type}', map: { 'ba*': 'failure' } } } },
      { outcome: 'failure' },
    ],
    [
      'map each item',
      { fields: { 'event.category': { from: '${holder.groups}', map: { staff: 'iam', night: ['host', 'iam'] } } } },
      { category: ['iam', 'host'] },
    ],
    [
      'look at conditions',
      {
        fields: {
          'event.reason': [
            { from: 'no', when: { door: 'x*' } },
            { from: 'yes', when: { door: '!x*' } },
          ],
        },
      },
      { reason: 'yes' },
    ],
    ['decode', { fields: { 'event.reason': { from: 'b3BlbmVk', decode: 'base64' } } }, { reason: 'opened' }],
    [
      'take groups out of text',
      {
        extract: [{ from: '${door}', patterns: ['^x', '^(?P<first>[a-z]+)-'] }],
        fields: { 'event.reason': '${first}' },
      },
      { reason: 'server' },
    ],
    [
      'take texts for nothing',
      { nothing: ['u7'], fields: { 'event.reason': ['${holder.id}', 'none'] } },
      { reason: 'none' },
    ],
  ])('%s', (_, mapping, expected) => expect(badge(door(mapping))).toMatchObject({ preset: 'door', ...expected }));

  it('count in units', () => {
    const access = badge(
      door({ fields: { 'event.duration': { from: '${seconds}', unit: 's' }, 'event.end': '2026-11-20T10:00:00Z' } }),
      {},
      { observedNs: 2n ** 61n },
    );
    expect(access.endNs - access.startNs).toBe(1_500_000_000n);
  });

  it('say more of what has no trace', () => {
    const mapping = door({ untraced: { 'user.id': '${holder.id}', 'audit.out_of_band': 'true' } });
    expect(badge(mapping)).toMatchObject({ actor: { id: 'u7' }, outOfBand: true });
    const traced = badge(mapping, {}, { traceId: 'a'.repeat(32) });
    expect(traced.actor).toBeUndefined();
    expect(traced.outOfBand).toBeUndefined();
  });
});

describe('which mapping takes a record', () => {
  const kind = (
    body: LogRecord['body'],
    rules = rulesOf(DOOR),
    values: Values = {},
    parts: Partial<LogRecord> = {},
  ) => {
    const verdict = recogniseLog(lineOf(body, values, parts), rules);
    return verdict.kind === 'access' ? verdict.access.preset : verdict;
  };
  it('the first that fits, the settings before the presets, and an event in the record’s own names before these', () => {
    expect(kind(JSON.stringify(BADGE), rulesOf(door({ name: 'first' }), DOOR))).toBe('first');
    const kubernetes = { auditID: 'a', verb: 'get', stage: 'ResponseComplete' };
    expect(kind(JSON.stringify(kubernetes))).toBe('kubernetes');
    expect(kind(JSON.stringify({ ...kubernetes, ...BADGE }))).toBe('door');
    expect(kind(JSON.stringify({ ...kubernetes, 'audit.target.id': 'x' }))).toBe('log.access');
    expect(
      kind(JSON.stringify({ ...kubernetes, 'audit.target.id': 'x' }), rulesOf(DOOR), {
        'spantrail.preset': 'kubernetes',
      }),
    ).toBe('kubernetes');
  });
  it('by its resource and by the name of its event, too', () => {
    const resource = { attributes: new Map([['service.name', 'doors']]) };
    const mapping = door({ when: { door: '*', 'service.name': 'door*' } });
    expect(kind(JSON.stringify(BADGE), rulesOf(mapping), {}, { resource })).toBe('door');
    expect(kind(JSON.stringify(BADGE), rulesOf(mapping))).toEqual({ kind: 'context' });
    const named = door({ when: { 'log.event_name': 'door.*' } });
    expect(kind(JSON.stringify(BADGE), rulesOf(named), {}, { eventName: 'door.open' })).toBe('door');
  });
  it('none, when it is too long, broken, nested beyond measure or something else', () => {
    const deep = `${'{"type":'.repeat(20_000)}1${'}'.repeat(20_000)}`;
    const long = JSON.stringify({ ...BADGE, more: 'x'.repeat(1_100_000) });
    for (const body of [deep, long, '{"type":"badge","door":', '["badge"]', 'badge', '', undefined, 7]) {
      expect(kind(body)).toEqual({ kind: 'context' });
    }
  });
  it('text by its own patterns or columns', () => {
    const fields = { 'event.action': 'enter', 'user.id': '${who}', 'audit.target.id': '${door}' };
    const csv: Mapping = {
      name: 'csv',
      when: { kind: 'badge' },
      parse: { as: 'csv', columns: ['kind', 'who', 'door'] },
      fields,
    };
    expect(accessOf(lineOf('badge,"Doe, Jane",north'), rulesOf(csv))).toMatchObject({
      actor: { id: 'Doe, Jane' },
      target: { id: 'north' },
    });
    const parse = { as: 'regex', patterns: ['^(?P<who>\\w+) opened (?P<door>\\w+)$'] } as const;
    const regex: Mapping = { name: 'regex', when: { who: '*' }, parse, fields };
    expect(accessOf(lineOf('jane opened north'), rulesOf(regex))).toMatchObject({
      actor: { id: 'jane' },
      target: { id: 'north' },
    });
    expect(kind('jane closed north', rulesOf(csv, regex))).toEqual({ kind: 'context' });
  });
});

describe('mistakes in mappings are named', () => {
  it.each<[Partial<Mapping>, RegExp]>([
    [{ when: {} }, /door, when: it is empty and would fit everything/],
    [{ when: { type: [] } }, /when\.type: there is no pattern/],
    [{ when: { type: ['a', '!a'] } }, /when\.type: what it asks for it refuses as well/],
    [{ when: { 'span.name': 'x' } }, /when\.span\.name: fields aside, mappings know log\.event_name, scope\.name/],
    [
      { fields: { 'user.nmae': 'x' } },
      /fields\.user\.nmae: an access event has no such field; did you mean "user\.name"\?/,
    ],
    [{ fields: { 'user.id': '${a' } }, /fields\.user\.id: "\$\{a" has a "\$\{" that is not closed/],
    [{ fields: { 'user.id': '${}' } }, /fields\.user\.id: "\$\{\}" names no field/],
    [{ fields: { 'user.id': [] } }, /fields\.user\.id: an empty list has no value/],
    [{ untraced: { nothing: 'x' } }, /untraced\.nothing: an access event has no such field/],
    [{ extract: [{ from: '${a}', patterns: ['(?P<x>['] }] }, /extract\.0\.patterns\.0: /],
    [{ extract: [{ from: '${a}', patterns: ['x'] }] }, /extract\.0: no pattern has a named group/],
    [{ parse: { as: 'regex', patterns: ['(?=x)'] } }, /parse: /],
    [{ parse: { as: 'csv', columns: ['a', 'a'] } }, /parse\.columns: two columns have one name/],
    [{ parse: { as: 'postgres', prefixes: ['%m %z '] } }, /parse: log_line_prefix has no escape "%z"/],
    [{ name: ' ' }, /every mapping needs a name/],
  ])('%j', (mapping, message) => {
    expect(() => compileMappings([door(mapping)])).toThrow(message);
  });
  it('and two of one name', () => {
    expect(() => compileMappings([DOOR, DOOR])).toThrow(/door, name: another mapping has this name/);
  });
});

describe('rows of CSV', () => {
  it('are read as a whole library reads them', () => {
    const field = fc.string({ unit: fc.constantFrom('a', 'b', ',', '"', '\n', ' ', 'é') });
    fc.assert(
      fc.property(
        fc.array(field, { minLength: 1, maxLength: 8 }),
        fc.array(fc.boolean(), { minLength: 8, maxLength: 8 }),
        (fields, quoted) => {
          const row = fields
            .map((text, at) => (quoted[at] || /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text))
            .join(',');
          fc.pre(row.trim() !== '');
          expect(readCsvRow(row)).toEqual(fields);
          const [oracle] = parseCsv(row, { relax_quotes: false, skip_empty_lines: false }) as string[][];
          expect(oracle).toEqual(fields);
        },
      ),
    );
  });
  it('that are not whole are read as far as they go, and whatever comes never throws', () => {
    expect(readCsvRow('a,"select 1,')).toEqual(['a', 'select 1,']);
    expect(readCsvRow('a,"b"c,d')).toEqual(['a', 'bc', 'd']);
    fc.assert(fc.property(fc.string(), (text) => readCsvRow(text).length > 0));
    expect(readCsvRow(','.repeat(1000))).toHaveLength(128);
  });
});

describe('lines of PostgreSQL', () => {
  const line = (prefix: string, text: string) => readPostgresLine(text, undefined, [compilePrefix(prefix)]);
  const AUDIT = 'LOG:  AUDIT: SESSION,1,1,READ,SELECT,TABLE,public.t,select 1,<none>';
  it.each([
    [
      '%m [%p] %q%u@%d ',
      '2026-11-20 10:00:00.123 UTC [7] app user@shop ',
      { user: 'app user', dbname: 'shop', pid: '7' },
    ],
    ['%m [%p] %q%u@%d ', '2026-11-20 10:00:00.123 UTC [7] ', { pid: '7', user: undefined }],
    ['%t:%r:%u@%d:[%p]:', '2026-11-20 10:00:00 UTC:[local]:app@shop:[7]:', { user: 'app', remote_host: undefined }],
    [
      '%n %-8u| %h %c %l ',
      '1795164600.123 app     | 10.0.0.7 6741a2f0.63 4 ',
      { user: 'app', remote_host: '10.0.0.7', session_id: '6741a2f0.63', line_num: '4' },
    ],
    ['100%% (%e) %a ', '100% (00000) psql - x ', { state_code: '00000', application_name: 'psql - x' }],
    [
      '%u@%d ',
      'no such prefix at all: user=app,db=shop [12] 10.0.0.7(55) ',
      { user: 'app', dbname: 'shop', pid: '12', remote_host: '10.0.0.7', remote_port: '55' },
    ],
  ])('%s', (prefix, before, expected) => {
    const read = line(prefix, before + AUDIT);
    expect(read).toMatchObject({ audit: { command: 'SELECT', object_name: 'public.t' } });
    for (const [name, value] of Object.entries(expected)) expect(read?.[name]).toBe(value);
  });
  it('are known by the names of their fields', () => {
    const value = fc.constantFrom<unknown>('LOG', 'AUDIT: SESSION,1,1,READ', '', null, 7, { class: 'READ' });
    const names = ['message', 'error_severity', 'audit', 'query', 'log_time', 'other'];
    const inner = fc.dictionary(fc.constantFrom(...names), value);
    const fields = fc.tuple(inner, fc.option(inner)).map(([own, record]) => (record ? { ...own, record } : own));
    fc.assert(
      fc.property(fields, (given) => {
        const isLine = readPostgresLine(undefined, given, []) !== undefined;
        expect(isLine && !hasLineNames(Object.keys(given))).toBe(false);
      }),
      { numRuns: 1_000 },
    );
  });
  it('never throw, whatever they hold', () => {
    const piece = fc.constantFrom(
      'AUDIT: ',
      'LOG:  ',
      'ERROR:  ',
      'SESSION,',
      '"',
      ',',
      ' denied',
      '2026-11-20 10:00:00 UTC',
      '[',
      '%',
      'x',
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => void line('%m [%p] %q%u@%d ', pieces.join(''))),
    );
  });
});

describe('times', () => {
  it.each([
    ['2026-11-20T10:00:00Z', '2026-11-20T10:00:00.000Z', 0n],
    ['2026-11-20T10:00:00.123456789+02:00', '2026-11-20T08:00:00.123Z', 456_789n],
    ['2026-11-20 10:00:00.5 CET', '2026-11-20T09:00:00.500Z', 0n],
    ['2026-11-20 10:00:00-05', '2026-11-20T15:00:00.000Z', 0n],
    ['20/Nov/2026:10:00:00 +0100', '2026-11-20T09:00:00.000Z', 0n],
    ['1795168800.123', '2026-11-20T10:00:00.123Z', 0n],
    [1_795_168_800_123, '2026-11-20T10:00:00.123Z', 0n],
    ['1795168800123456789', '2026-11-20T10:00:00.123Z', 456_789n],
  ])('%s', (given, expected, beyondMs) => {
    expect(instantOf(given)).toBe(BigInt(Date.parse(expected)) * 1_000_000n + beyondMs);
  });
  it.each([
    '',
    'yesterday',
    '2026-13-01T00:00:00Z',
    '2026-11-20 10:00:00 IST',
    '31/Foo/2026:10:00:00 +0000',
    '2026-02-30T00:00:00Z',
  ])('not %s', (given) => {
    expect(instantOf(given)).toBeUndefined();
  });
  it('far in the future are not believed', () => {
    const mapping = door({ fields: { '@timestamp': '${at}' } });
    const observedNs = BigInt(Date.parse('2026-11-20T10:00:00Z')) * 1_000_000n;
    expect(badge(mapping, { at: '2031-01-01T00:00:00Z' }, { observedNs, timeNs: observedNs }).startNs).toBe(observedNs);
  });
});

describe('patterns', () => {
  it('take time in proportion to the text, whatever they are', () => {
    const evil = compilePattern('^(?P<x>(a+)+)$');
    expect(evil.match(`${'a'.repeat(50_000)}b`)).toBeUndefined();
    expect(evil.match('aaa')).toEqual({ x: 'aaa' });
  });
});
