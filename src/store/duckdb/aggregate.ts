import { type DuckDBConnection, DuckDBListValue, type DuckDBValue } from '@duckdb/node-api';
import type { Field, FieldValue } from '../../core/fields.ts';
import { ipText } from '../../query/text.ts';
import { bandsField, checkAggregation, checkGroupLimit, groupField, measureField, percentileField } from '../paging.ts';
import type { Aggregation, AggregationRow, Facet, Measured, Selection } from '../port.ts';
import { query } from './reads.ts';
import { recordsSql } from './schema.ts';
import { Bindings, querySql, selectionSql, valueSql } from './sql.ts';

/** One thing that is asked of each group. */
interface Part {
  /** Columns of each record that it needs, in SQL with a name. */
  readonly columns: readonly string[];
  /** What is made of them, in SQL. */
  readonly outputs: readonly string[];
  /** The answer, from as many cells as there are outputs. */
  read(cells: readonly DuckDBValue[]): Partial<AggregationRow>;
}

export async function facets(
  connection: DuckDBConnection,
  selection: Selection,
  names: readonly string[],
  limit: number,
): Promise<Facet[]> {
  checkGroupLimit(limit);
  const list: Facet[] = [];
  for (const name of names) {
    const rows = await aggregate(connection, selection, { groupBy: [name], limit });
    list.push({ field: name, buckets: rows.map(({ group, count }) => ({ value: group[0] ?? '', count })) });
  }
  return list;
}

export async function aggregate(
  connection: DuckDBConnection,
  selection: Selection,
  aggregation: Aggregation,
): Promise<AggregationRow[]> {
  checkAggregation(aggregation);
  const bindings = new Bindings();
  const groups = aggregation.groupBy.map(groupField);
  const parts = [...timePart(aggregation, bindings), ...partsOf(aggregation, bindings)];
  const values = groups.map((field, at) => `${groupValues(field, aggregation.withMissing === true)} AS g${at}`);
  const columns = ['1 AS one', ...values, ...parts.flatMap((part) => part.columns)];
  const condition = selectionSql(selection, bindings);
  let from = `SELECT ${columns.join(', ')} FROM ${recordsSql(condition, ...columns)} WHERE ${condition}`;
  // One level each: several unnest() side by side would be zipped, not combined.
  for (const at of groups.keys()) from = `SELECT * REPLACE (unnest(g${at}) AS g${at}) FROM (${from})`;
  const keys = groups.map((_, at) => `g${at}`);
  const outputs = [...keys, 'count(*) AS total', ...parts.flatMap((part) => part.outputs)];
  const { countMin, limit } = aggregation;
  const rows = await query(
    connection,
    `SELECT ${outputs.join(', ')} FROM (${from}) ${groupingSql(aggregation, keys)}
      ${countMin === undefined ? '' : `HAVING count(*) >= ${bindings.add(countMin)}`}
      ${orderSql(aggregation, keys)} LIMIT ${bindings.add(limit)}`,
    bindings,
  );
  return rows.map((row) => {
    const cells = row.slice(groups.length + 1);
    const answers = parts.map((part) => part.read(cells.splice(0, part.outputs.length)));
    const group = groups.map((field, index) => toFieldValue(field, row[index] ?? null));
    return Object.assign({ group, count: Number(row[groups.length]) }, ...answers) as AggregationRow;
  });
}

function groupingSql({ everyMs }: Aggregation, keys: readonly string[]): string {
  if (everyMs !== undefined) return 'GROUP BY start';
  return keys.length === 0 ? '' : `GROUP BY ${keys.join(', ')}`;
}

function orderSql({ everyMs, orderBy, measures }: Aggregation, keys: readonly string[]): string {
  if (everyMs !== undefined) return 'ORDER BY start';
  if (keys.length === 0) return '';
  const ties = keys.map((key) => `${key} NULLS FIRST`).join(', ');
  if (!orderBy) return `ORDER BY total DESC, ${ties}`;
  const name = `m${measures?.indexOf(orderBy.field)}`;
  const by = { sum: sumSql(name), mean: `${sumSql(name)} / ${countSql(name)}`, max: `max(list_max(${name}))` };
  return `ORDER BY ${by[orderBy.by]} DESC NULLS LAST, ${ties}`;
}

/** The values of a field as a list without repetition; empty, or holding NULL, when the record has none. */
function groupValues(field: Field, withMissing: boolean): string {
  const value = valueSql(field);
  const none = withMissing ? '[NULL]' : '[]';
  if (!field.many) return withMissing ? `[${value}]` : `CASE WHEN ${value} IS NULL THEN [] ELSE [${value}] END`;
  return withMissing
    ? `CASE WHEN coalesce(len(${value}), 0) = 0 THEN ${none} ELSE list_distinct(${value}) END`
    : `list_distinct(${value})`;
}

function timePart({ everyMs }: Aggregation, bindings: Bindings): Part[] {
  if (everyMs === undefined) return [];
  const width = bindings.add(everyMs);
  return [
    {
      columns: [`"@timestamp" // 1000000 // ${width} * ${width} AS start`],
      outputs: ['start'],
      read: ([start]) => ({ startMs: Number(start) }),
    },
  ];
}

function partsOf(aggregation: Aggregation, bindings: Bindings): Part[] {
  const { percentiles, distinct, measures, bands, counts, extent } = aggregation;
  return [
    ...(percentiles ? [percentilesPart(percentiles, bindings)] : []),
    ...(distinct === undefined ? [] : [distinctPart(groupField(distinct))]),
    ...(measures ? [measuresPart(measures)] : []),
    ...(bands ? [bandsPart(bands, bindings)] : []),
    ...(counts ? [countsPart(counts, bindings)] : []),
    ...(extent ? [EXTENT] : []),
  ];
}

function percentilesPart({ field, percents }: NonNullable<Aggregation['percentiles']>, bindings: Bindings): Part {
  const shares = percents.map((percent) => bindings.add(percent / 100)).join(', ');
  return {
    columns: [`CAST(${valueSql(percentileField(field))} AS DOUBLE) AS measure`],
    outputs: [`quantile_cont(measure, [${shares}])`],
    read: ([cell]) => ({
      percentiles: Object.fromEntries(numbersOf(cell).map((value, at) => [String(percents[at]), value])),
    }),
  };
}

function distinctPart(field: Field): Part {
  const value = valueSql(field);
  return {
    columns: [`${field.many ? value : `[${value}]`} AS counted`],
    outputs: ['len(list_filter(list_distinct(flatten(list(counted))), lambda x: x IS NOT NULL))'],
    read: ([cell]) => ({ distinct: Number(cell ?? 0) }),
  };
}

/** All values of a record in a list each. Whole numbers are added up as such, so the order of the rows is nothing to the sum. */
function measuresPart(names: readonly string[]): Part {
  const list = (field: Field): string => {
    const value = valueSql(field);
    const values = field.many ? `coalesce(${value}, [])` : `[${value}]`;
    const number = field.type === 'boolean' ? 'CAST(x AS BIGINT)' : 'x';
    return `list_transform(list_filter(${values}, lambda x: x IS NOT NULL), lambda x: ${number})`;
  };
  const columns = names.map((name, at) => `${list(measureField(name))} AS m${at}`);
  const outputs = columns.flatMap((_, at) => [
    countSql(`m${at}`),
    sumSql(`m${at}`),
    `min(list_min(m${at}))`,
    `max(list_max(m${at}))`,
  ]);
  return {
    columns,
    outputs,
    read: (cells) => ({
      measures: Object.fromEntries(names.map((name, at) => [name, toMeasured(cells.slice(at * 4, at * 4 + 4))])),
    }),
  };
}

function countSql(list: string): string {
  return `sum(len(${list}))`;
}

function sumSql(list: string): string {
  return `CAST(sum(list_sum(${list})) AS DOUBLE)`;
}

function toMeasured([count, sum, min, max]: readonly DuckDBValue[]): Measured {
  const ends = min === null || max === null ? {} : { min: Number(min), max: Number(max) };
  return { count: Number(count ?? 0), sum: Number(sum ?? 0), ...ends };
}

/** DuckDB names what lies above the last bound by the largest BIGINT, and leaves it out where there is none. */
function bandsPart(bands: NonNullable<Aggregation['bands']>, bindings: Bindings): Part {
  const bounds = bands.bounds.map((bound) => bindings.add(BigInt(bound))).join(', ');
  return {
    columns: [`${valueSql(bandsField(bands))} AS banded`],
    outputs: [`map_values(histogram(banded, [${bounds}]))`],
    read: ([cell]) => {
      const numbers = numbersOf(cell);
      return { bands: Array.from({ length: bands.bounds.length + 1 }, (_, at) => numbers[at] ?? 0) };
    },
  };
}

function countsPart(counts: NonNullable<Aggregation['counts']>, bindings: Bindings): Part {
  const names = Object.keys(counts);
  return {
    columns: Object.values(counts).map((condition, at) => `${querySql(condition, bindings)} AS c${at}`),
    outputs: names.map((_, at) => `count(*) FILTER (c${at})`),
    read: (cells) => ({ counts: Object.fromEntries(names.map((name, at) => [name, Number(cells[at])])) }),
  };
}

const EXTENT: Part = {
  columns: ['"@timestamp" AS moment'],
  outputs: ['min(moment) // 1000000', 'max(moment) // 1000000'],
  read: ([first, last]) => (first === null || last === null ? {} : { firstMs: Number(first), lastMs: Number(last) }),
};

function numbersOf(cell: DuckDBValue | undefined): number[] {
  return cell instanceof DuckDBListValue ? cell.items.map(Number) : [];
}

function toFieldValue(field: Field, value: DuckDBValue): FieldValue | null {
  if (value === null) return null;
  if (field.type === 'ip') return ipText(String(value));
  return typeof value === 'bigint' ? Number(value) : typeof value === 'boolean' ? value : String(value);
}
