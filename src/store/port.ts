import type { Alert, AlertState, Severity } from '../core/alert.ts';
import type { FieldValue } from '../core/fields.ts';
import type { AuditRecord } from '../core/record.ts';
import type { RecordWrite } from '../core/settlement.ts';
import type { Query } from '../query/ast.ts';
import type { StoreCare } from './care.ts';

/** Which records a read looks at. Records that were superseded by another id are hidden unless asked for. */
export interface Selection {
  readonly query: Query;
  /** Inclusive lower and exclusive upper bound of `@timestamp`, epoch nanoseconds. */
  readonly fromNs?: bigint;
  readonly toNs?: bigint;
  readonly namespace?: string;
  /** Also inner accesses; entries only when false. */
  readonly inner: boolean;
}

export interface Sort {
  /** A field of the catalogue with one value a record. Ties are broken by `event.id`; records without it come last. */
  readonly field: string;
  readonly direction: 'asc' | 'desc';
}

export interface Page {
  readonly records: readonly AuditRecord[];
  /** Opaque; absent on the last page. Paging is by key, so pages neither overlap nor skip while records are written. */
  readonly next?: string;
}

export interface FacetBucket {
  readonly value: FieldValue;
  readonly count: number;
}

export interface Facet {
  readonly field: string;
  /** Largest first, ties by value. */
  readonly buckets: readonly FacetBucket[];
}

export interface HistogramBucket {
  /** Start of the bucket, epoch nanoseconds. */
  readonly startNs: bigint;
  readonly count: number;
  readonly failures: number;
  readonly denied: number;
}

export interface Aggregation {
  /** Group by the values of these fields (at most 3); empty groups everything together. */
  readonly groupBy: readonly string[];
  /** Records without a value in one of these fields are grouped under null there; else they are in no group. */
  readonly withMissing?: true;
  /**
   * Groups by time instead, which `groupBy` must then leave empty: buckets of this width, from the epoch on. Those with records
   * come in the order of time.
   */
  readonly everyMs?: number;
  /** Percentiles (0 to 100) of a duration or number field. Approximate on Elasticsearch. */
  readonly percentiles?: { readonly field: string; readonly percents: readonly number[] };
  /** Number of distinct values of a field. Approximate on Elasticsearch. */
  readonly distinct?: string;
  /**
   * Number, sum, least and largest of all values of these fields: durations, numbers, truths (0 or 1). A record may hold several
   * values, equal ones too. Exact as long as the sum of whole numbers is below 2^53.
   */
  readonly measures?: readonly string[];
  /** How many values of a duration or whole number field lie up to each bound and above the one before. Exact. */
  readonly bands?: { readonly field: string /** Whole numbers, ascending. */; readonly bounds: readonly number[] };
  /** How many records of the group fit each of these queries, too. */
  readonly counts?: Readonly<Record<string, Query>>;
  /** First and last `@timestamp` of the group. */
  readonly extent?: true;
  /** Keeps the groups with the largest sum, mean or value of a field of `measures`, not those with the largest count. */
  readonly orderBy?: { readonly field: string; readonly by: 'sum' | 'mean' | 'max' };
  /** Only groups of at least so many records. */
  readonly countMin?: number;
  /** Groups kept, largest count first, ties by value, null before all. */
  readonly limit: number;
}

export interface Measured {
  /** Values. */
  readonly count: number;
  readonly sum: number;
  /** Absent where there is no value. */
  readonly min?: number;
  readonly max?: number;
}

export interface AggregationRow {
  readonly group: readonly (FieldValue | null)[];
  readonly count: number;
  /** Start of the bucket, epoch milliseconds; with `everyMs`. */
  readonly startMs?: number;
  readonly percentiles?: Readonly<Record<string, number>>;
  readonly distinct?: number;
  readonly measures?: Readonly<Record<string, Measured>>;
  /** One number for each bound, and one for what lies above all. */
  readonly bands?: readonly number[];
  readonly counts?: Readonly<Record<string, number>>;
  /** With `extent`: epoch milliseconds, rounded down; absent where there is no record. */
  readonly firstMs?: number;
  readonly lastMs?: number;
}

export interface Capabilities {
  readonly name: 'memory' | 'duckdb' | 'elasticsearch' | 'null';
  /** How long a durable write may take to show up in reads, milliseconds. */
  readonly searchableAfterMs: number;
  /** `write` asks for no more of records than their texts. */
  readonly takesTexts: boolean;
  readonly exactAggregations: boolean;
}

/** A document that the store will never take, with the reason it gave. Its neighbours were written. */
export interface WriteRejection {
  readonly id: string;
  readonly reason: string;
}

export interface WriteResult {
  readonly written: number;
  /** Not written because the store already holds this id with a higher rank. */
  readonly outranked: number;
  readonly rejected: readonly WriteRejection[];
}

/** Where a record is known to have been last: makes it found sooner, and right after its write. It need not be so. */
export interface GetHint {
  readonly namespace: string;
  /** Its `@timestamp`, epoch nanoseconds. */
  readonly timestampNs: bigint;
}

/** A record whose rank is asked for, and where it should be: its namespace and its `@timestamp` in epoch nanoseconds. */
export interface RankRequest extends GetHint {
  readonly id: string;
}

/** An alert, and what tells its state from a later one. */
export interface StoredAlert {
  readonly alert: Alert;
  /** Opaque. */
  readonly version: string;
}

export interface AlertWrite {
  readonly alert: Alert;
  /** Of the state that it replaces; absent when there must be none yet. */
  readonly version?: string;
}

/** Which alerts a read looks at: those that fit all that is given. */
export interface AlertSelection {
  readonly states?: readonly AlertState[];
  readonly severities?: readonly Severity[];
  /** Id of the rule. */
  readonly rule?: string;
  readonly namespace?: string;
  /** As in `AlertGroup`. */
  readonly group?: string;
  /** Alerts with accesses in this time, epoch nanoseconds, upper bound exclusive: by their first and last one. */
  readonly fromNs?: bigint;
  readonly toNs?: bigint;
  /** That name one of these records, or traces, as evidence. */
  readonly records?: readonly string[];
  readonly traces?: readonly string[];
}

export interface AlertPage {
  /** The one that was raised last first; ties by id. */
  readonly alerts: readonly Alert[];
  /** Opaque; absent on the last page. */
  readonly next?: string;
}

/** The alerts of one rule, namespace and group. */
export interface AlertGroup {
  /** Names the group in a selection. */
  readonly key: string;
  readonly alerts: number;
  readonly open: number;
  /** Accesses of all of them. */
  readonly count: number;
  readonly newest: Alert;
}

/** Where alerts live, beside the records. What was written is there for the next read. */
export interface AlertStore {
  /** In the order of the ids; undefined where there is none. */
  read(ids: readonly string[]): Promise<readonly (StoredAlert | undefined)[]>;
  /**
   * Resolves when those that were taken are durable; false for one that somebody has changed, or made, since it was read. Each id
   * at most once. Throws as the writes of records do.
   */
  write(writes: readonly AlertWrite[]): Promise<readonly boolean[]>;
  search(selection: AlertSelection, limit: number, cursor?: string): Promise<AlertPage>;
  /** The one with the newest alert first. */
  groups(selection: AlertSelection, limit: number): Promise<readonly AlertGroup[]>;
}

export interface StoreSetUp {
  /** Also what somebody changed by hand; without it that is left alone. */
  readonly overwrite?: boolean;
  /** A namespace that is to be prepared before its first record comes. */
  readonly namespace?: string;
}

/**
 * Where records live. Every adapter passes test/conformance/store.ts. Adapters throw AppError('store_unavailable') for
 * what a retry may mend and no record is at fault for: the same write is repeated until it works. Any other error of a
 * write may be due to one of its records, which is then looked for. No batch is kept half-known: after a thrown error
 * the same batch, or parts of it, may be written again.
 */
export interface Store {
  readonly capabilities: Capabilities;
  readonly alerts: AlertStore;
  /** Creates or upgrades tables, templates and aliases. May be called on every start. */
  setUp(options?: StoreSetUp): Promise<void>;
  /** Present where somebody has to look after the place in which the records are. */
  readonly care?: StoreCare;
  /**
   * Resolves when every record of the batch is durable. Idempotent; a higher rank replaces a lower, equal is the same,
   * lower is ignored. Before a record is replaced by a higher rank, the earlier one is kept among the revisions.
   */
  write(batch: readonly RecordWrite[]): Promise<WriteResult>;
  search(selection: Selection, sort: Sort, limit: number, cursor?: string): Promise<Page>;
  get(id: string, hint?: GetHint): Promise<AuditRecord | undefined>;
  /**
   * The rank of the current state of each, in their order; undefined where the store has none, wherever it is looked for.
   * Sees what was written a moment ago at the place that the request names. For whole batches: a thousand at a time.
   */
  ranks(requests: readonly RankRequest[]): Promise<readonly (bigint | undefined)[]>;
  /** Every kept state of one record, oldest first, the current one last. Empty when the id is unknown. */
  revisions(id: string): Promise<readonly AuditRecord[]>;
  /** All records of one trace, inner ones included, by start time. */
  trace(traceId: string): Promise<readonly AuditRecord[]>;
  count(selection: Selection): Promise<number>;
  facets(selection: Selection, fields: readonly string[], limit: number): Promise<readonly Facet[]>;
  /** Buckets of equal width from the first to the last record, empty ones included. */
  histogram(selection: Selection, bucketMs: number): Promise<readonly HistogramBucket[]>;
  aggregate(selection: Selection, aggregation: Aggregation): Promise<readonly AggregationRow[]>;
  /** Everything selected, in `@timestamp` order (oldest first), one page in memory at a time. */
  iterate(selection: Selection): AsyncIterable<AuditRecord>;
  /** Makes what was written readable now; for tests and the demo. */
  refresh(): Promise<void>;
  close(): Promise<void>;
}
