import { gunzipSync } from 'node:zlib';
import type { PipelineAnswer } from '../../src/api/contract.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import { ORACLE, oracleDecode, type Plain } from '../otlp/oracle.ts';
import type { LoadResult } from './load.ts';
import { GRPC_PREFIX_BYTES, type Traffic } from './workload.ts';

/** What a receiver's sums say, of spans and of the records that they made. */
interface Counts {
  readonly acceptedSpans: number;
  readonly storedRecords: number;
  readonly difference: number;
}

export function countsOf({ sums }: PipelineAnswer): Counts {
  const counts = { acceptedSpans: 0, storedRecords: 0, difference: 0 };
  for (const sum of sums) {
    if (sum.of === 'traces') counts.acceptedSpans = sum.accepted;
    if (sum.of === 'records') counts.storedRecords = sum.stored;
    counts.difference += Math.abs(sum.difference);
  }
  return counts;
}

/** Fails unless a load came to the spans and records that it must come to. */
export function checkCounts(traffic: Traffic, before: Counts, after: Counts, load: LoadResult): void {
  const accepted = after.acceptedSpans - before.acceptedSpans;
  const stored = after.storedRecords - before.storedRecords;
  if (after.difference !== 0) throw new Error(`the sums differ by ${after.difference}`);
  // What was refused may have been accepted in part: a connection that breaks after the write says nothing.
  if (accepted !== load.acknowledgedSpans && Object.keys(load.refused).length === 0)
    throw new Error(`${load.acknowledgedSpans} spans acknowledged, ${accepted} accepted`);
  const { recordsATrace } = traffic;
  const expected = recordsATrace === undefined ? undefined : load.acknowledgedTraces * recordsATrace;
  if (expected !== undefined && stored !== expected && Object.keys(load.refused).length === 0)
    throw new Error(`${load.acknowledgedTraces} traces must make ${expected} records and made ${stored}`);
}

interface SentSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentId: string;
  readonly service: string;
  readonly name: string;
  readonly kind: number;
  readonly startNs: bigint;
  readonly endNs: bigint;
  readonly attributes: ReadonlyMap<string, string>;
}

/** The spans of framed requests as protobufjs reads them, which shares nothing with the product's decoder. */
export function sentSpans(requests: readonly Buffer[]): SentSpan[] {
  return requests.flatMap((framed) => {
    const message = framed.subarray(GRPC_PREFIX_BYTES);
    const request = oracleDecode(ORACLE.traces, framed[0] === 1 ? gunzipSync(message) : message);
    return list(request['resourceSpans']).flatMap((resource) => {
      const service = attributesOf(resource['resource'] as Plain).get('service.name') ?? '';
      const spans = list(resource['scopeSpans']).flatMap((scope) => list(scope['spans']));
      return spans.map((span) => sentSpan(span, service));
    });
  });
}

function sentSpan(span: Plain, service: string): SentSpan {
  const hex = (field: string) => ((span[field] as Buffer | undefined) ?? Buffer.alloc(0)).toString('hex');
  return {
    ...{ traceId: hex('traceId'), spanId: hex('spanId'), parentId: hex('parentSpanId') },
    ...{ service, name: String(span['name']), kind: Number(span['kind']) },
    ...{ startNs: BigInt(String(span['startTimeUnixNano'])), endNs: BigInt(String(span['endTimeUnixNano'])) },
    attributes: attributesOf(span),
  };
}

const list = (value: unknown) => (value ?? []) as readonly Plain[];

function attributesOf(holder: Plain): Map<string, string> {
  return new Map(
    list(holder['attributes']).map(({ key, value }) => [String(key), String(Object.values(value as Plain)[0])]),
  );
}

/**
 * Fails unless the records say of each access what its span said: one record each, and none of anything else. Whether each
 * access must have one is not asked of a huge trace.
 */
export function checkRecords(spans: readonly SentSpan[], records: readonly AuditRecord[], mustBeAll: boolean): void {
  const keyOf = (traceId: string, spanId: string) => `${traceId}/${spanId}`;
  const expected = new Map(spans.filter(isAccess).map((span) => [keyOf(span.traceId, span.spanId), span]));
  const byTrace = Map.groupBy(spans, ({ traceId }) => traceId);
  for (const record of records) {
    const key = keyOf(record.trace?.id ?? '', record.span?.id ?? '');
    const span = expected.get(key);
    if (span === undefined) throw new Error(`a record of ${key}, which is no access or has a record already`);
    expected.delete(key);
    const [told, wanted] = [tellingOf(record), wantedOf(span, byTrace.get(span.traceId) ?? [], mustBeAll)];
    for (const [field, value] of Object.entries(wanted)) {
      if (told[field] !== value) throw new Error(`${key}: ${field} is ${told[field]} and must be ${value}`);
    }
  }
  if (mustBeAll && expected.size > 0)
    throw new Error(`${expected.size} accesses without a record, one is ${[...expected.keys()][0]}`);
}

const isAccess = ({ kind, attributes }: SentSpan) => kind === 2 || attributes.has('db.system.name');

type Telling = Readonly<Record<string, string | number | undefined>>;

function tellingOf(record: AuditRecord): Telling {
  return {
    ...{ start: record.event.start, end: record.event.end, duration: record.event.duration },
    ...{ parent: record.parent?.id ?? '', service: record.service?.name, user: record.user?.id },
    ...{ address: record.source?.ip, action: record.event.action, path: record.url?.path, route: record.http?.route },
    ...{ table: record.db?.collection, spans: record.audit.join.spans, state: record.audit.join.state },
    ...{ wholeDuration: record.audit.trace?.duration, statement: record.db?.statement?.slice(0, STATEMENT_CHARS) },
  };
}

/** Of a statement the beginning, which has no values in it. */
const STATEMENT_CHARS = 'SELECT id, total, currency, state, updated_at FROM '.length;

/** What the record of an access must say. The person is whom the nearest server span above it names. */
function wantedOf(span: SentSpan, trace: readonly SentSpan[], isWhole: boolean): Telling {
  const { attributes } = span;
  const isServer = span.kind === 2;
  const byId = new Map(trace.map((other) => [other.spanId, other]));
  let server: SentSpan | undefined = span;
  while (server && server.kind !== 2) server = byId.get(server.parentId);
  const root = trace.find(({ parentId }) => parentId === '');
  return {
    ...{ start: timeText(span.startNs), end: timeText(span.endNs), duration: Number(span.endNs - span.startNs) },
    ...{ parent: span.parentId, service: span.service, user: server?.attributes.get('user.id') },
    address: server?.attributes.get('network.peer.address'),
    action: isServer ? 'GET' : attributes.get('db.operation.name'),
    ...(isServer && { path: attributes.get('url.path'), route: attributes.get('http.route') }),
    table: attributes.get('db.collection.name'),
    statement: attributes.get('db.query.text')?.slice(0, STATEMENT_CHARS),
    ...(isWhole && { spans: trace.length, state: 'complete' }),
    ...(isWhole && root && { wholeDuration: Number(root.endNs - root.startNs) }),
  };
}

function timeText(ns: bigint): string {
  const seconds = new Date(Number(ns / 1_000_000_000n) * 1000).toISOString().slice(0, 19);
  return `${seconds}.${String(ns % 1_000_000_000n).padStart(9, '0')}Z`;
}
