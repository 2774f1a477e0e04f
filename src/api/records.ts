import type { FastifyInstance } from 'fastify';
import { AppError } from '../core/errors.ts';
import type { Span } from '../core/evidence.ts';
import type { AuditRecord } from '../core/record.ts';
import type { AlertMark, MarkedRecord } from './alert-contract.ts';
import {
  type FacetsAnswer,
  facetsQuery,
  type RecordsAnswer,
  type RevisionsAnswer,
  recordsQuery,
  type TraceAnswer,
  type TraceSpan,
} from './contract.ts';
import { toCoverageQuestion } from './coverage.ts';
import { checkParameters, requireField, toSelection, toSort } from './selection.ts';
import type { ApiDependencies } from './server.ts';

/** Most fields of one facets request: what a sidebar shows. */
const FACET_FIELDS_MAX = 20;

export function addRecordRoutes(
  server: FastifyInstance,
  { store, clock, readTrace, coverage, alerts }: ApiDependencies,
): void {
  server.get('/api/v1/records', async (request): Promise<RecordsAnswer> => {
    const parameters = checkParameters(recordsQuery, request.query);
    const selection = toSelection(parameters, clock.nowMs());
    const page = await store.search(selection, toSort(parameters.sort), parameters.limit, parameters.cursor);
    return {
      records: page.records,
      ...(page.next === undefined ? {} : { next: page.next }),
      ...(parameters.cursor === undefined ? { coverage: coverage.summary(toCoverageQuestion(selection)) } : {}),
    };
  });

  server.get('/api/v1/records/:id', async (request): Promise<MarkedRecord> => {
    const { id } = request.params as { id: string };
    const record = await store.get(id);
    if (!record) throw new AppError('not_found', `no record with id ${id}`);
    return { ...record, ...marked(await alerts.marks([record.event.id])) };
  });

  server.get('/api/v1/records/:id/revisions', async (request): Promise<RevisionsAnswer> => {
    const { id } = request.params as { id: string };
    const revisions = await store.revisions(id);
    if (revisions.length === 0) throw new AppError('not_found', `no record with id ${id}`);
    return { revisions };
  });

  server.get('/api/v1/traces/:traceId', async (request): Promise<TraceAnswer> => {
    const traceId = (request.params as { traceId: string }).traceId.toLowerCase();
    if (!/^[0-9a-f]{32}$/.test(traceId)) throw new AppError('bad_request', 'the trace id must be 32 hex digits');
    const [spans, records] = await Promise.all([readTrace(traceId), store.trace(traceId)]);
    const marks = await alerts.marks(records.map((record) => record.event.id));
    if (spans.length > 0) {
      return { trace_id: traceId, drawn_from: 'evidence', spans: barsOfSpans(spans), records, ...marked(marks) };
    }
    if (records.length === 0)
      throw new AppError('not_found', `no record of trace ${traceId}, and no evidence of it is held`);
    return { trace_id: traceId, drawn_from: 'records', spans: barsOfPaths(records), records, ...marked(marks) };
  });

  server.get('/api/v1/facets', async (request): Promise<FacetsAnswer> => {
    const parameters = checkParameters(facetsQuery, request.query);
    const names = parameters.fields.split(',').map((name) => name.trim());
    if (names.length > FACET_FIELDS_MAX)
      throw new AppError('bad_request', `fields: at most ${FACET_FIELDS_MAX} at once`);
    for (const name of names) {
      if (requireField('fields', name).type === 'text')
        throw new AppError('bad_request', `fields: ${name} has no facets`);
    }
    const facets = await store.facets(toSelection(parameters, clock.nowMs()), names, parameters.limit);
    return { facets: facets.map(({ field, buckets }) => ({ field, values: buckets })) };
  });
}

/** Beside what is stored; nothing when nothing rests on it. */
function marked(alerts: readonly AlertMark[]): { readonly alerts?: readonly AlertMark[] } {
  return alerts.length === 0 ? {} : { alerts };
}

const KINDS = ['unspecified', 'internal', 'server', 'client', 'producer', 'consumer'] as const;
const STATUS_ERROR = 2;

function barsOfSpans(spans: readonly Span[]): TraceSpan[] {
  const known = new Map<string, Span>();
  for (const span of spans) known.set(span.spanId, span);
  const unique = [...known.values()].sort((a, b) => (a.startNs < b.startNs ? -1 : a.startNs > b.startNs ? 1 : 0));
  const firstNs = unique[0]?.startNs ?? 0n;
  return unique.map((span) => {
    const service = span.resource.attributes.get('service.name');
    return {
      span_id: span.spanId,
      ...(span.parentSpanId === '' ? {} : { parent_id: span.parentSpanId }),
      name: span.name,
      kind: KINDS[span.kind] ?? 'unspecified',
      ...(typeof service === 'string' ? { service } : {}),
      start_offset: Number(span.startNs - firstNs),
      duration: Math.max(0, Number(span.endNs - span.startNs)),
      status: span.statusCode === STATUS_ERROR ? 'error' : 'ok',
      ...(span.statusMessage === '' ? {} : { status_message: span.statusMessage }),
    };
  });
}

/** What the accesses' stored paths still tell of a trace whose spans are gone: each step under the step before it. */
function barsOfPaths(records: readonly AuditRecord[]): TraceSpan[] {
  const bars = new Map<string, TraceSpan>();
  for (const record of records) {
    let parentId: string | undefined;
    for (const step of record.audit.path ?? []) {
      bars.set(step.span_id, {
        span_id: step.span_id,
        ...(parentId === undefined ? {} : { parent_id: parentId }),
        name: step.name,
        kind: step.kind,
        ...(step.service === undefined ? {} : { service: step.service }),
        start_offset: step.start_offset,
        duration: step.duration,
        status: step.status === 'ok' ? 'ok' : 'error',
      });
      parentId = step.span_id;
    }
  }
  return [...bars.values()].sort((a, b) => a.start_offset - b.start_offset);
}
