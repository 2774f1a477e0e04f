import fc from 'fast-check';
import { formatTimestamp, parseTimestamp } from '../../src/core/clock.ts';
import { type Field, findField } from '../../src/core/fields.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import type { CompareOperator, Query } from '../../src/query/ast.ts';
import { printQuery } from '../../src/query/print.ts';
import { makeRecord } from '../fixtures/records.ts';

/** Texts that have gone wrong in query languages: records and queries draw from the same few, so that they meet. */
const TEXTS = [
  'alice',
  'Alice',
  'alice smith',
  'bob "the" \\builder\\',
  'a*b',
  'a%b_c',
  "o'hara",
  'line\nbreak\ttab',
  '10.0.0.7',
  'naïve Ωσς İstanbul',
  '日本語',
  '𝒜lice',
  '\uffee',
  'and',
  '(x:y)',
  ' blank ',
  '',
  '{"json":["$.a"]}',
];
const SENTENCES = [
  'alice (nurse) was refused SELECT on shop.orders from 10.0.0.7: permission denied (42501), 41 ms',
  'ALICE read shop.orders',
  "bob's ΟΔΟΣ straße 日本語 naïve",
  '42 % 7',
];
const IPS = ['10.0.0.7', '10.0.1.9', '192.168.1.1', '2001:db8::1', '::1', 'fe80::a:b'];
const NETWORKS: readonly (readonly [string, string])[] = [
  ['10.0.0.0', '10.255.255.255'],
  ['10.0.0.0', '10.0.0.255'],
  ['2001:db8::', '2001:db8:ffff:ffff:ffff:ffff:ffff:ffff'],
  ['0.0.0.0', '255.255.255.255'],
];
const START_NS = parseTimestamp('2026-11-21T23:59:59.999999998Z') ?? 0n;
const DURATIONS = [0, 1, 41_000_000, 41_000_001, 90_000_000_000];
const NUMBERS = [0, 1, 200, 403, 500];

const text = fc.constantFrom(...TEXTS);
const time = fc
  .constantFrom(0n, 1n, 2n, 1_000_000_000n, 3_600_000_000_000n, 86_400_000_000_000n)
  .map((ns) => START_NS + ns);
const maybe = <T>(value: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> => fc.option(value, { nil: undefined, freq: 2 });
const number = fc.constantFrom(...NUMBERS);
const duration = fc.constantFrom(...DURATIONS);
const ip = fc.constantFrom(...IPS);

const eventParts = fc.record({
  id: fc.uuid().map((uuid) => uuid.replaceAll('-', '')),
  action: text,
  category: fc.subarray(['web', 'database', 'iam']),
  type: fc.subarray(['access', 'denied', 'change']),
  outcome: fc.constantFrom('success', 'failure', 'unknown'),
  reason: maybe(text),
  end: time.map(formatTimestamp),
  duration,
});

const auditParts = fc.record({
  entry: fc.boolean(),
  target: fc.record({ type: fc.constantFrom('endpoint', 'table'), id: text, name: maybe(text) }),
  decision: fc.constantFrom('allow', 'deny', 'none'),
  checks: maybe(
    fc.array(fc.record({ permission: maybe(text), granted: fc.boolean(), duration: maybe(duration) }), {
      maxLength: 3,
    }),
  ),
  trace: maybe(
    fc.record({ duration, span_count: number, error_count: number, services: fc.subarray(['shop', 'orders', 'a*b']) }),
  ),
  superseded_by: fc.option(fc.constant('other'), { nil: undefined, freq: 12 }),
});

/** A whole record whose fields are often missing and often shared with others. Ids are 32 hex digits. */
export const recordArbitrary: fc.Arbitrary<AuditRecord> = fc
  .record({
    '@timestamp': time.map(formatTimestamp),
    message: fc.constantFrom(...SENTENCES),
    event: eventParts,
    user: maybe(fc.record({ id: maybe(text), name: maybe(text), roles: maybe(fc.array(text, { maxLength: 3 })) })),
    source: maybe(fc.record({ ip: maybe(ip), port: maybe(number) })),
    related: maybe(
      fc.record({ user: maybe(fc.array(text, { maxLength: 3 })), ip: maybe(fc.array(ip, { maxLength: 3 })) }),
    ),
    http: maybe(fc.record({ response: maybe(fc.record({ status_code: maybe(number) })), route: maybe(text) })),
    url: maybe(fc.record({ path: text })),
    db: maybe(fc.record({ statement: text })),
    audit: auditParts,
  })
  .map((parts) => makeRecord(parts as Parameters<typeof makeRecord>[0]));

/** Fields of every type, single and many, in columns of their own and not, in records and in none. */
const QUERIED = [
  '@timestamp',
  'message',
  'event.id',
  'event.action',
  'event.type',
  'event.outcome',
  'event.reason',
  'event.end',
  'event.duration',
  'user.id',
  'user.name',
  'user.roles',
  'user.email',
  'source.ip',
  'source.port',
  'related.user',
  'related.ip',
  'http.response.status_code',
  'http.route',
  'url.path',
  'db.statement',
  'audit.entry',
  'audit.target.name',
  'audit.checks.permission',
  'audit.checks.granted',
  'audit.checks.duration',
  'audit.trace.services',
  'audit.trace.duration',
  'audit.trace.span_count',
  'audit.join.late',
  'audit.superseded_by',
  'audit.evidence.source',
];

const field: fc.Arbitrary<Field> = fc
  .constantFrom(...QUERIED)
  .map((name) => findField(name))
  .filter((found) => found !== undefined);

/** Fields that records can be sorted by, one of each type. */
export const SORTED = [
  '@timestamp',
  'event.end',
  'event.duration',
  'user.id',
  'url.path',
  'source.ip',
  'source.port',
  'http.response.status_code',
  'audit.entry',
  'audit.trace.duration',
];

/** Fields that can be counted by value. */
export const COUNTED = [
  'user.id',
  'user.roles',
  'audit.checks.permission',
  'source.ip',
  'related.ip',
  'audit.entry',
  'source.port',
];

const operator = fc.constantFrom<CompareOperator>('>', '>=', '<', '<=');

/** `head*tail` or `*middle*` of a text that records hold. */
const pattern = fc
  .tuple(fc.constantFrom(...TEXTS, 'shop'), fc.nat(6), fc.nat(6), fc.boolean())
  .map(([whole, a, b, inner]) => {
    const letters = [...whole];
    const [from, to] = a < b ? [a, b] : [b, a];
    const [head, middle, tail] = [letters.slice(0, from), letters.slice(from, to), letters.slice(to)].map((l) =>
      l.join(''),
    );
    return inner ? ['', middle ?? '', ''] : [head ?? '', tail ?? ''];
  })
  // Nothing but stars is another query (`exists`).
  .filter((pieces) => pieces.some((piece) => piece !== ''));

const phrase = fc.constantFrom(
  'alice',
  'ALICE read',
  'on shop orders',
  'refused',
  'οδος',
  'STRASSE',
  'straße',
  '42',
  '日本語',
  's',
);

function leaf(of: Field): fc.Arbitrary<Query> {
  const exists = fc.constant<Query>({ kind: 'exists', field: of });
  const equals = (values: fc.Arbitrary<string | number | bigint | boolean>) =>
    values.map((value): Query => ({ kind: 'equals', field: of, value }));
  const compares = (values: fc.Arbitrary<number | bigint>) =>
    fc.tuple(operator, values).map(([op, value]): Query => ({ kind: 'compare', field: of, operator: op, value }));
  switch (of.type) {
    case 'keyword':
      return fc.oneof(
        exists,
        equals(text),
        pattern.map((pieces): Query => ({ kind: 'matches', field: of, pattern: pieces })),
      );
    case 'text':
      return fc.oneof(exists, equals(phrase), equals(text));
    case 'boolean':
      return fc.oneof(exists, equals(fc.boolean()));
    case 'ip':
      return fc.oneof(
        exists,
        equals(ip),
        fc.constantFrom(...NETWORKS).map(([first, last]): Query => ({ kind: 'network', field: of, first, last })),
      );
    case 'date':
      return fc.oneof(exists, equals(time), compares(time));
    case 'duration':
      return fc.oneof(exists, equals(duration.map(BigInt)), compares(duration.map(BigInt)));
    default:
      return fc.oneof(exists, equals(number), compares(number));
  }
}

const words = fc.oneof(
  fc
    .oneof(text, phrase, ip, fc.constantFrom('GET', 'success', 'shop'))
    .map((value): Query => ({ kind: 'words', text: value })),
  pattern.map((pieces): Query => ({ kind: 'words', text: pieces.join('*'), pattern: pieces })),
);

/** A query as the parser makes them: `and` and `or` have at least two parts and are not nested in themselves. */
export const queryArbitrary: fc.Arbitrary<Query> = fc.letrec<{ query: Query; part: Query }>((tie) => ({
  query: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    { weight: 4, arbitrary: tie('part') },
    joined('and'),
    joined('or'),
  ),
  part: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    { weight: 6, arbitrary: field.chain(leaf) },
    { weight: 1, arbitrary: words },
    { weight: 2, arbitrary: tie('query').map((part): Query => ({ kind: 'not', part })) },
  ),
})).query;

function joined(kind: 'and' | 'or'): fc.Arbitrary<Query> {
  return fc.array(fc.oneof(field.chain(leaf), words), { minLength: 2, maxLength: 3 }).chain((leaves) =>
    fc.boolean().map((nested): Query => {
      const [first, ...rest] = leaves;
      if (!nested || !first) return { kind, parts: leaves };
      const other = kind === 'and' ? 'or' : 'and';
      return { kind, parts: [first, { kind: 'not', part: { kind: other, parts: [first, ...rest] } }] };
    }),
  );
}

/** The same as text. */
export const queryTextArbitrary: fc.Arbitrary<string> = queryArbitrary.map(printQuery);
