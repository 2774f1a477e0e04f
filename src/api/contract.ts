import { z } from 'zod';
import type { CoverageSummary } from '../core/coverage.ts';
import type { Sample } from '../core/metrics.ts';
import type { AuditRecord, PathStep } from '../core/record.ts';
import { ALERT_ROUTES, type AlertMark } from './alert-contract.ts';
import { INSIGHT_ROUTES } from './insight-contract.ts';
import type { Route } from './route.ts';
import { RULE_ROUTES } from './rule-contract.ts';

/** The HTTP API's contract: one table from which checks, the OpenAPI page and the clients' types come. */

export const PAGE_RECORDS_DEFAULT = 50;
/** Largest page: about 4 MB of records, so that an answer stays pleasant. Export streams more. */
export const PAGE_RECORDS_MAX = 1000;
export const FACET_VALUES_MAX = 100;

const flag = z
  .enum(['true', 'false'])
  .default('false')
  .transform((text) => text === 'true');

const selection = {
  q: z
    .string()
    .default('')
    .describe('Query, the KQL that Kibana users know: user.id: alice and event.outcome: failure'),
  from: z.string().optional().describe('Earliest @timestamp: RFC 3339, or back from now like -15m, -2h, -7d'),
  to: z.string().optional().describe('@timestamp before this, written like `from`'),
  namespace: z.string().optional().describe('Only this namespace'),
  inner: flag.describe('true shows inner accesses too, not only entries'),
};

export const recordsQuery = z.strictObject({
  ...selection,
  sort: z
    .string()
    .regex(/^[@a-z_.]+(:(asc|desc))?$/, 'must be a field, or a field with :asc or :desc')
    .default('@timestamp:desc')
    .describe('Field, with :asc or :desc'),
  limit: z.coerce.number().int().min(1).max(PAGE_RECORDS_MAX).default(PAGE_RECORDS_DEFAULT),
  cursor: z.string().optional().describe('`next` of the page before'),
});

export const facetsQuery = z.strictObject({
  ...selection,
  fields: z
    .string()
    .default('event.outcome,user.id,audit.target.id,service.name')
    .describe('Fields to count values of, separated by commas'),
  limit: z.coerce.number().int().min(1).max(FACET_VALUES_MAX).default(10),
});

export const histogramQuery = z.strictObject({
  ...selection,
  bucket: z
    .string()
    .regex(/^\d+(ms|s|m|h|d)$/, 'must be a width like 30s, 5m or 1h')
    .optional()
    .describe('Width of a bucket: 30s, 5m, 1h; without it one that fits what is there'),
});

export const tailQuery = z.strictObject({ q: selection.q, namespace: selection.namespace, inner: selection.inner });

export const exportQuery = z.strictObject({ ...selection, format: z.enum(['ndjson', 'csv']).default('ndjson') });

/** Items of one quarantine request at most: their ids fit an address. */
export const QUARANTINE_IDS_MAX = 100;

const quarantineIds = z
  .string()
  .regex(/^[0-9a-f]{16}(,[0-9a-f]{16})*$/, 'must be ids of 16 hex digits, separated by commas')
  .transform((text) => [...new Set(text.split(','))])
  .refine((ids) => ids.length <= QUARANTINE_IDS_MAX, `must be at most ${QUARANTINE_IDS_MAX} ids`)
  .describe(`Ids of items, separated by commas, at most ${QUARANTINE_IDS_MAX}`);

export const quarantineQuery = z.strictObject({
  state: z.enum(['open', 'resolved', 'all']).default('open').describe('Only what waits for a person, or what was done'),
  stage: z.string().optional().describe('Only what this stage set aside: store, decode or settle'),
  limit: z.coerce.number().int().min(1).max(PAGE_RECORDS_MAX).default(PAGE_RECORDS_DEFAULT),
  cursor: z.string().optional().describe('`next` of the page before'),
});

export const quarantineRetryQuery = z.strictObject({ ids: quarantineIds });

export const quarantineDropQuery = z.strictObject({
  ids: quarantineIds,
  reason: z.string().trim().min(1, 'say why: it is kept').max(1000).describe('Why it is given up; kept with the item'),
});

export const reconcileQuery = z.strictObject({
  restore: flag.describe('true settles the traces of what is missing again, and looks once more'),
  namespace: selection.namespace,
});

/** Something that was acknowledged and could be neither stored nor read. */
export interface QuarantineItem {
  readonly id: string;
  /** Who set it aside: `store` a record, `decode` and `settle` evidence. */
  readonly stage: string;
  /** The record's id, or where the evidence lies in the write-ahead log (segment/offset/item). */
  readonly subject: string;
  readonly reason: string;
  /** RFC 3339; empty for what an early version set aside. */
  readonly added: string;
  readonly state: 'open' | 'retried' | 'dropped';
  /** When and why it was resolved. */
  readonly resolved?: string;
  readonly why?: string;
  /** The record, or the evidence as far as its bytes could be kept; only when one item is asked for, while it is open. */
  readonly body?: unknown;
}

export interface QuarantineAnswer {
  readonly items: readonly QuarantineItem[];
  readonly next?: string;
  /** All open items, on this page or not. */
  readonly open: number;
  readonly bytes: number;
  readonly bytes_max: number;
  /** Lines of the file that cannot be read. */
  readonly damaged: number;
}

/** What became of each item that was to be retried or dropped. */
export interface QuarantineActionAnswer {
  readonly results: readonly {
    readonly id: string;
    readonly state: 'open' | 'retried' | 'dropped' | 'unknown';
    readonly text: string;
  }[];
}

export const coverageQuery = z.strictObject({
  from: z.string().optional().describe('Earliest time: RFC 3339, or back from now like -15m, -2h, -7d'),
  to: z.string().optional().describe('Before this time, written like `from`; now without it'),
  service: z.string().optional().describe('Only this service (service.name)'),
  namespace: selection.namespace,
});

export interface RecordsAnswer {
  readonly records: readonly AuditRecord[];
  readonly next?: string;
  /** What is known to be missing in the time and of the services asked for; on the first page only. */
  readonly coverage?: CoverageSummary;
}

export interface RevisionsAnswer {
  /** Oldest first, the current one last. */
  readonly revisions: readonly AuditRecord[];
}

/** One bar of the waterfall. Times in nanoseconds; `start_offset` counts from the start of the first span. */
export interface TraceSpan {
  readonly span_id: string;
  readonly parent_id?: string;
  readonly name: string;
  readonly kind: PathStep['kind'];
  readonly service?: string;
  readonly start_offset: number;
  readonly duration: number;
  readonly status: 'ok' | 'error';
  readonly status_message?: string;
}

export interface TraceAnswer {
  readonly trace_id: string;
  /** `evidence`: every span, read from the write-ahead log; `records`: the stored paths of the accesses, spans are gone. */
  readonly drawn_from: 'evidence' | 'records';
  readonly spans: readonly TraceSpan[];
  readonly records: readonly AuditRecord[];
  /** What rests on its records; absent when nothing does. */
  readonly alerts?: readonly AlertMark[];
}

export interface FacetsAnswer {
  readonly facets: readonly {
    readonly field: string;
    readonly values: readonly { readonly value: string | number | boolean; readonly count: number }[];
  }[];
}

export interface HistogramAnswer {
  /** Width of a bucket, as asked for or chosen. */
  readonly bucket: string;
  readonly buckets: readonly {
    readonly start: string;
    readonly count: number;
    readonly failures: number;
    readonly denied: number;
  }[];
}

/** Accepted evidence of one signal = pending + what became of it. */
export interface EvidenceSum {
  readonly of: 'traces' | 'logs' | 'metrics';
  readonly accepted: number;
  readonly pending: number;
  readonly used: number;
  readonly context: number;
  readonly excluded: number;
  readonly duplicate: number;
  readonly expired: number;
  readonly quarantined: number;
  readonly difference: number;
}

/** Settled records = stored + pending + quarantined. */
export interface RecordSum {
  readonly of: 'records';
  readonly settled: number;
  readonly stored: number;
  readonly pending: number;
  readonly quarantined: number;
  readonly difference: number;
}

export type Sum = EvidenceSum | RecordSum;

/** Where evidence and records are now. `pending` is zero when everything received is searchable. */
export interface PipelineAnswer {
  readonly store: { readonly type: string; readonly state: 'writing' | 'retrying'; readonly error?: string };
  readonly pending: { readonly evidence: number; readonly traces: number; readonly lag_ms: number };
  readonly wal: {
    readonly bytes: number;
    readonly unsettled_bytes: number;
    readonly unsettled_bytes_max: number;
    readonly horizon_ms: number;
  };
  /**
   * Where everything is that was accepted or settled since the data folder was made, at one moment: the difference is 0, or
   * something was lost. None while the write-ahead log is replayed.
   */
  readonly sums: readonly Sum[];
  readonly refusing: boolean;
  readonly replaying: boolean;
  readonly counters: readonly Sample[];
}

export interface ErrorAnswer {
  readonly error: { readonly code: string; readonly message: string; readonly column?: number };
}

/** Every route, for the OpenAPI page. Paths in OpenAPI's writing. */
export const ROUTES: readonly Route[] = [
  {
    path: '/api/v1/records',
    summary: 'Accesses that fit a query, newest first',
    query: recordsQuery,
    answers: 'json',
    needs: 'read',
    record: { action: 'search', target: 'audit_records' },
  },
  {
    path: '/api/v1/records/{id}',
    summary: 'One record',
    answers: 'json',
    needs: 'read',
    record: { action: 'view', target: 'audit_record' },
  },
  {
    path: '/api/v1/records/{id}/revisions',
    summary: 'Every state of one record, oldest first',
    answers: 'json',
    needs: 'read',
    record: { action: 'view_revisions', target: 'audit_record' },
  },
  {
    path: '/api/v1/traces/{traceId}',
    summary: 'The spans and records of one trace',
    answers: 'json',
    needs: 'read',
    record: { action: 'view', target: 'trace' },
  },
  {
    path: '/api/v1/facets',
    summary: 'Counts of the values of fields',
    query: facetsQuery,
    answers: 'json',
    needs: 'read',
    record: { action: 'count', target: 'audit_records' },
  },
  {
    path: '/api/v1/histogram',
    summary: 'Accesses over time',
    query: histogramQuery,
    answers: 'json',
    needs: 'read',
    record: { action: 'count', target: 'audit_records' },
  },
  {
    path: '/api/v1/tail',
    summary: 'Records as they are written (server-sent events)',
    query: tailQuery,
    answers: 'sse',
    needs: 'read',
    record: { action: 'tail', target: 'audit_records' },
  },
  {
    path: '/api/v1/export',
    summary: 'Everything that fits a query, oldest first',
    query: exportQuery,
    answers: 'ndjson',
    needs: 'read',
    record: { action: 'export', target: 'audit_records' },
  },
  {
    path: '/api/v1/coverage',
    summary: 'What was seen of each service, and what is known to be missing',
    query: coverageQuery,
    answers: 'json',
    needs: 'read',
    record: { action: 'view', target: 'coverage' },
  },
  { path: '/api/v1/pipeline', summary: 'What is pending, written, refused', answers: 'json', needs: 'monitor' },
  {
    path: '/api/v1/quarantine',
    summary: 'What was acknowledged and could be neither stored nor read, oldest first',
    query: quarantineQuery,
    answers: 'json',
    needs: 'operate',
    record: { action: 'list', target: 'quarantine' },
  },
  {
    path: '/api/v1/quarantine/{id}',
    summary: 'One item of the quarantine, with what was set aside',
    answers: 'json',
    needs: 'operate',
    record: { action: 'view', target: 'quarantine' },
  },
  {
    method: 'POST',
    path: '/api/v1/quarantine/retry',
    summary: 'Writes records to the store again, settles evidence again',
    query: quarantineRetryQuery,
    answers: 'json',
    needs: 'operate',
    record: { action: 'retry', target: 'quarantine' },
  },
  {
    method: 'DELETE',
    path: '/api/v1/quarantine',
    summary: 'Gives items up, with a reason that is kept',
    query: quarantineDropQuery,
    answers: 'json',
    needs: 'operate',
    record: { action: 'drop', target: 'quarantine' },
  },
  {
    method: 'POST',
    path: '/api/v1/reconcile',
    summary: 'Compares the store with what is known to be stored, and restores what it lost',
    query: reconcileQuery,
    answers: 'ndjson',
    needs: 'operate',
    record: { action: 'reconcile', target: 'audit_records' },
  },
  { path: '/api/v1/openapi.json', summary: 'This page: what can be asked', answers: 'json', needs: 'read' },
  ...INSIGHT_ROUTES,
  ...ALERT_ROUTES,
  ...RULE_ROUTES,
  { path: '/healthz', summary: 'The process answers', answers: 'text' },
  {
    path: '/readyz',
    summary: 'Is evidence accepted? 503 when not; tells replaying, buffering, refusing, stopping',
    answers: 'text',
  },
  { path: '/metrics', summary: 'Metrics for Prometheus', answers: 'text', needs: 'monitor' },
];
