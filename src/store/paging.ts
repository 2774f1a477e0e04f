import { AppError } from '../core/errors.ts';
import { type Field, type FieldValue, findField } from '../core/fields.ts';
import { namesField } from '../query/evaluate.ts';
import type { Aggregation, AggregationRow, Selection, Sort } from './port.ts';

/** Records of one page at most: Elasticsearch's result window. */
const PAGE_RECORDS_MAX = 10_000;

/** Buckets of one histogram at most: more than any screen draws, and far less than what fills the memory. */
const HISTOGRAM_BUCKETS_MAX = 10_000;

/** Facet values or aggregation groups at most. */
const GROUPS_MAX = 10_000;

const GROUP_FIELDS_MAX = 3;

/** Bands of one aggregation at most: thirty orders of magnitude in tenths are more than any latency has. */
const BANDS_MAX = 300;

/** Widest bucket of time: 100 days. */
const EVERY_MS_MAX = 8_640_000_000;

/** The text under which superseded records say which id stands for them now. */
export const SUPERSEDED_FIELD = 'audit.superseded_by';

/** Are superseded records left out? They are, unless the query names the field that makes them superseded. */
export function hidesSuperseded(selection: Selection): boolean {
  return !namesField(selection.query, SUPERSEDED_FIELD);
}

/** The field to sort by. Only fields with one value a record and an order of their own will do. */
export function sortField(sort: Sort): Field {
  const field = knownField(sort.field);
  if (field.many) throw new AppError('bad_request', `${field.name} may hold several values; sort by a field with one`);
  if (field.type === 'text') throw new AppError('bad_request', `${field.name} is free text; sort by another field`);
  return field;
}

/** A field whose values can be counted one by one: facets, groups and distinct counts. */
export function groupField(name: string): Field {
  const field = knownField(name);
  if (['keyword', 'ip', 'boolean', 'long'].includes(field.type)) return field;
  throw new AppError(
    'bad_request',
    `values of ${name} (${field.type}) cannot be counted one by one; group by another field`,
  );
}

/** A field that percentiles can be taken of. */
export function percentileField(name: string): Field {
  const field = knownField(name);
  if (!field.many && ['duration', 'long', 'double'].includes(field.type)) return field;
  throw new AppError('bad_request', `percentiles need a single number or duration; ${name} is none`);
}

/** A field whose values can be added up. */
export function measureField(name: string): Field {
  const field = knownField(name);
  if (['duration', 'long', 'double', 'boolean'].includes(field.type)) return field;
  throw new AppError('bad_request', `values of ${name} (${field.type}) cannot be added up`);
}

/** A field whose values can be counted by bands. Fractions are refused: the stores would not agree where a band ends. */
export function bandsField({ field: name, bounds }: NonNullable<Aggregation['bands']>): Field {
  const field = knownField(name);
  if (field.many || !['duration', 'long'].includes(field.type)) {
    throw new AppError('bad_request', `bands need a single duration or whole number; ${name} is none`);
  }
  const ascend = bounds.every((bound, at) => Number.isSafeInteger(bound) && bound > (bounds[at - 1] ?? -1));
  if (ascend && bounds.length > 0 && bounds.length <= BANDS_MAX) return field;
  throw new AppError('bad_request', `bounds must be 1 to ${BANDS_MAX} whole numbers, each above the one before`);
}

/** What groups are ordered by; below all others without a value. */
export function rankOf(row: AggregationRow, { field, by }: NonNullable<Aggregation['orderBy']>): number {
  const { count = 0, sum = 0, max = Number.NEGATIVE_INFINITY } = row.measures?.[field] ?? {};
  if (count === 0) return Number.NEGATIVE_INFINITY;
  return by === 'sum' ? sum : by === 'max' ? max : sum / count;
}

function knownField(name: string): Field {
  const field = findField(name);
  if (!field) throw new AppError('bad_request', `there is no field ${JSON.stringify(name)}`);
  return field;
}

/** Throws unless `limit` is a whole number from 1 to what one page may hold. */
export function checkPageLimit(limit: number): void {
  checkRange('limit', limit, PAGE_RECORDS_MAX);
}

export function checkGroupLimit(limit: number): void {
  checkRange('limit', limit, GROUPS_MAX);
}

/** Throws unless the aggregation's fields, percents and limit make sense. */
export function checkAggregation(aggregation: Aggregation): void {
  checkGroupLimit(aggregation.limit);
  if (aggregation.groupBy.length > GROUP_FIELDS_MAX) {
    throw new AppError('bad_request', `group by at most ${GROUP_FIELDS_MAX} fields`);
  }
  for (const percent of aggregation.percentiles?.percents ?? []) {
    if (!(percent >= 0 && percent <= 100)) throw new AppError('bad_request', 'percents go from 0 to 100');
  }
  const { everyMs, orderBy, bands } = aggregation;
  if (bands) bandsField(bands);
  if (everyMs !== undefined) {
    checkRange('everyMs', everyMs, EVERY_MS_MAX);
    if (aggregation.groupBy.length > 0 || orderBy || bands) {
      throw new AppError('bad_request', 'groups by time have no other groups, no other order and no bands');
    }
  }
  if (orderBy && !aggregation.measures?.includes(orderBy.field)) {
    throw new AppError('bad_request', `to order by ${orderBy.field}, measure it`);
  }
}

function checkRange(name: string, value: number, max: number): void {
  if (Number.isInteger(value) && value >= 1 && value <= max) return;
  throw new AppError('bad_request', `${name} must be a whole number from 1 to ${max}`);
}

/** Where a page ended: the sort value (absent on a record without it) and the id of its last record. */
export interface Position {
  readonly value?: FieldValue;
  readonly id: string;
}

/** An opaque page token. It carries the sort that it belongs to. Dates are RFC 3339 text, as in the record. */
export function encodeCursor(sort: Sort, position: Position): string {
  const state = [sort.field, sort.direction, position.id, position.value ?? null];
  return Buffer.from(JSON.stringify(state)).toString('base64url');
}

/** The position in a token that `encodeCursor` made for this sort; AppError('bad_request') for anything else. */
export function decodeCursor(cursor: string, sort: Sort): Position {
  const state = parseState(cursor);
  const [field, direction, id, value] = state;
  if (state.length !== 4 || field !== sort.field || direction !== sort.direction || typeof id !== 'string') {
    throw new AppError('bad_request', 'the cursor does not belong to this sort; start again without it');
  }
  if (value === null) return { id };
  const type = sortField(sort).type;
  const wanted = type === 'boolean' ? 'boolean' : ['long', 'double', 'duration'].includes(type) ? 'number' : 'string';
  if (typeof value !== wanted) throw new AppError('bad_request', 'the cursor is damaged; start again without it');
  return { id, value: value as FieldValue };
}

function parseState(cursor: string): unknown[] {
  try {
    const state: unknown = JSON.parse(Buffer.from(cursor, 'base64url').toString());
    if (Array.isArray(state)) return state;
  } catch {
    // Not ours: answered like any other foreign text.
  }
  throw new AppError('bad_request', 'the cursor is none of ours; start again without it');
}

/** The bucket width in nanoseconds, refused when `firstNs` to `lastNs` would need too many buckets. */
export function histogramWidthNs(bucketMs: number, firstNs: bigint, lastNs: bigint): bigint {
  if (!(Number.isInteger(bucketMs) && bucketMs >= 1)) {
    throw new AppError('bad_request', 'the bucket width must be a whole number of milliseconds');
  }
  const widthNs = BigInt(bucketMs) * 1_000_000n;
  if (lastNs / widthNs - firstNs / widthNs >= BigInt(HISTOGRAM_BUCKETS_MAX)) {
    throw new AppError(
      'bad_request',
      `more than ${HISTOGRAM_BUCKETS_MAX} buckets; take a shorter range or wider buckets`,
    );
  }
  return widthNs;
}
