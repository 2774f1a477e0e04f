import { nsToMs } from '../core/clock.ts';
import { type Field, type FieldValue, fieldValues } from '../core/fields.ts';
import type { AuditRecord } from '../core/record.ts';
import type { RecordWrite } from '../core/settlement.ts';
import type { QueryValue } from '../query/ast.ts';
import { comparable, evaluate } from '../query/evaluate.ts';
import { compareText } from '../query/text.ts';
import { bandsField, checkAggregation, groupField, measureField, percentileField, rankOf } from './paging.ts';
import type { Aggregation, AggregationRow, Measured } from './port.ts';

type GroupValues = readonly (FieldValue | null)[];

interface Group {
  readonly group: GroupValues;
  readonly startMs?: number;
  readonly members: RecordWrite[];
}

/** What `Store.aggregate` means, in plain words over all the records: what other stores are compared with. */
export function aggregateRecords(writes: readonly RecordWrite[], aggregation: Aggregation): AggregationRow[] {
  checkAggregation(aggregation);
  const { everyMs, countMin = 0, orderBy, limit } = aggregation;
  const fields = aggregation.groupBy.map(groupField);
  const groups =
    everyMs === undefined ? grouped(writes, fields, aggregation.withMissing === true) : timed(writes, everyMs);
  const rows = groups
    .filter(({ members }) => members.length >= countMin)
    .map(({ members, ...group }) => ({ ...group, count: members.length, ...measuresOf(members, aggregation) }));
  if (everyMs !== undefined) return rows.slice(0, limit);
  const rank = (row: AggregationRow) => (orderBy ? rankOf(row, orderBy) : row.count);
  return rows.sort((a, b) => rank(b) - rank(a) || compareGroups(fields, a.group, b.group)).slice(0, limit);
}

/** In the order of the values, a record under each of them. */
function grouped(writes: readonly RecordWrite[], fields: readonly Field[], withMissing: boolean): Group[] {
  const groups = new Map<string, Group>();
  if (fields.length === 0) return [{ group: [], members: [...writes] }];
  for (const write of writes) {
    const values = fields.map((field) => {
      const held: (FieldValue | null)[] = [...new Set(fieldValues(write.record, field.name))];
      return held.length === 0 && withMissing ? [null] : held;
    });
    const combined = values.reduce<GroupValues[]>(
      (rows, column) => rows.flatMap((row) => column.map((value) => [...row, value])),
      [[]],
    );
    for (const group of combined) {
      const key = JSON.stringify(group);
      const known = groups.get(key);
      if (known) known.members.push(write);
      else groups.set(key, { group, members: [write] });
    }
  }
  return [...groups.values()];
}

function timed(writes: readonly RecordWrite[], everyMs: number): Group[] {
  const groups = new Map<number, RecordWrite[]>();
  for (const write of writes) {
    const startMs = Math.floor(nsToMs(write.timestampNs) / everyMs) * everyMs;
    const members = groups.get(startMs);
    if (members) members.push(write);
    else groups.set(startMs, [write]);
  }
  return [...groups].sort(([a], [b]) => a - b).map(([startMs, members]) => ({ group: [], startMs, members }));
}

function measuresOf(members: readonly RecordWrite[], aggregation: Aggregation): Partial<AggregationRow> {
  const { percentiles, distinct, measures, bands, counts, extent } = aggregation;
  const records = members.map((write) => write.record);
  const counted = distinct === undefined ? undefined : groupField(distinct);
  const times = members.map((write) => nsToMs(write.timestampNs)).sort((a, b) => a - b);
  const [firstMs, lastMs] = [times[0], times.at(-1)];
  return {
    ...(percentiles && {
      percentiles: percentilesOf(records, percentileField(percentiles.field), percentiles.percents),
    }),
    ...(counted && { distinct: new Set(records.flatMap((one) => fieldValues(one, counted.name).map(String))).size }),
    ...(measures && {
      measures: Object.fromEntries(measures.map((name) => [name, measured(records, measureField(name))])),
    }),
    ...(bands && { bands: bandsOf(records, bandsField(bands), bands.bounds) }),
    ...(counts && {
      counts: Object.fromEntries(
        Object.entries(counts).map(([name, query]) => [name, records.filter((one) => evaluate(query, one)).length]),
      ),
    }),
    ...(extent && firstMs !== undefined && lastMs !== undefined && { firstMs, lastMs }),
  };
}

function numbersOf(records: readonly AuditRecord[], field: Field): number[] {
  return records.flatMap((one) => fieldValues(one, field.name).map(Number)).sort((a, b) => a - b);
}

function measured(records: readonly AuditRecord[], field: Field): Measured {
  const values = numbersOf(records, field);
  const [min, max] = [values[0], values.at(-1)];
  const sum = values.reduce((total, value) => total + value, 0);
  return { count: values.length, sum, ...(min !== undefined && max !== undefined && { min, max }) };
}

function bandsOf(records: readonly AuditRecord[], field: Field, bounds: readonly number[]): number[] {
  const bands = new Array<number>(bounds.length + 1).fill(0);
  for (const value of numbersOf(records, field)) {
    const found = bounds.findIndex((bound) => value <= bound);
    const at = found < 0 ? bounds.length : found;
    bands[at] = (bands[at] ?? 0) + 1;
  }
  return bands;
}

/** Percentiles with linear interpolation between neighbours; none for a group without values. */
function percentilesOf(
  records: readonly AuditRecord[],
  field: Field,
  percents: readonly number[],
): Record<string, number> {
  const values = numbersOf(records, field);
  if (values.length === 0) return {};
  const at = (percent: number) => {
    const place = (percent / 100) * (values.length - 1);
    const low = values[Math.floor(place)] ?? 0;
    const high = values[Math.ceil(place)] ?? 0;
    return low + (high - low) * (place - Math.floor(place));
  };
  return Object.fromEntries(percents.map((percent) => [String(percent), at(percent)]));
}

function compareGroups(fields: readonly Field[], a: GroupValues, b: GroupValues): number {
  for (const [index, field] of fields.entries()) {
    const [one, other] = [a[index] ?? null, b[index] ?? null];
    if (one === null || other === null) {
      const order = Number(one !== null) - Number(other !== null);
      if (order !== 0) return order;
      continue;
    }
    const order = compareValues(comparable(field, one), comparable(field, other));
    if (order !== 0) return order;
  }
  return 0;
}

/** Missing values last; text as the stores order it. */
export function compareValues(a: QueryValue | undefined, b: QueryValue | undefined): number {
  if (a === undefined || b === undefined) return Number(a === undefined) - Number(b === undefined);
  if (typeof a === 'string' && typeof b === 'string') return compareText(a, b);
  return a < b ? -1 : a > b ? 1 : 0;
}
