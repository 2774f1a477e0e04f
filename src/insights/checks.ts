import type { AggregationRow, Store } from '../store/port.ts';
import { type Correlation, correlate, PAIRS_MIN } from './correlation.ts';
import {
  type Answer,
  column,
  exists,
  meanOf,
  numbered,
  only,
  type Question,
  rangeMs,
  table,
  timeText,
} from './question.ts';

const MINUTE_MS = 60_000;

/** A minute, unless that makes too many buckets; then the narrowest of these that does not. */
const WIDTHS_MS = [1, 5, 15, 60, 180, 720, 1440, 10_080].map((minutes) => minutes * MINUTE_MS);

/** Buckets of one series at most; both stores give as many. */
const BUCKETS_MAX = 10_000;

const GRANTED = 'audit.checks.granted';
const DURATION = 'event.duration';

/**
 * Authorisation checks minute by minute beside what statements took on average. Checks are counted on entries, which have those
 * of all accesses below them; statements wherever they are. Minutes without a statement have no latency and are not compared.
 */
export async function checks(store: Store, question: Question): Promise<Answer> {
  const { selection, limit } = question;
  const { fromMs, toMs } = rangeMs(selection);
  const everyMs = WIDTHS_MS.find((width) => (toMs - fromMs) / width < BUCKETS_MAX - 1) ?? WIDTHS_MS.at(-1) ?? MINUTE_MS;
  const series = { groupBy: [], everyMs, limit: BUCKETS_MAX } as const;
  const [asked, ran] = await Promise.all([
    store.aggregate({ ...only(selection, exists(GRANTED)), inner: false }, { ...series, measures: [GRANTED] }),
    store.aggregate({ ...only(selection, exists('db.system')), inner: true }, { ...series, measures: [DURATION] }),
  ]);
  const minutes = everyMs / MINUTE_MS;
  const rows = merge(asked, ran).map(({ startMs, check, statement }) => {
    const { count = 0, sum = 0 } = check?.measures?.[GRANTED] ?? {};
    return {
      start: timeText(startMs),
      checks: count / minutes,
      refused: (count - sum) / minutes,
      statements: (statement?.count ?? 0) / minutes,
      latency: meanOf(statement?.measures?.[DURATION]),
    };
  });
  const pairs = rows.flatMap((row) => (row.latency === null ? [] : [[row.checks, row.latency] as const]));
  const total = asked.reduce((sum, row) => sum + (row.measures?.[GRANTED]?.count ?? 0), 0);
  const unit = minutes === 1 ? 'a minute' : `${minutes} minutes`;
  return {
    findings: [
      ...correlationText(correlate(pairs), total, unit),
      `${numbered(total, 'check')} and ${numbered(sumOf(ran), 'statement')} in steps of ${unit}`,
    ],
    tables: [
      table(
        'Checks and database latency over time',
        [
          column('start', minutes === 1 ? 'Minute' : `${minutes} minutes from`, 'time'),
          column('checks', 'Checks a minute', 'number'),
          column('refused', 'Refused a minute', 'number'),
          column('statements', 'Statements a minute', 'number'),
          column('latency', 'Mean statement', 'duration'),
        ],
        rows.toReversed(),
        { empty: 'no authorisation check and no statement in that time', limit },
      ),
    ],
  };
}

function sumOf(rows: readonly AggregationRow[]): number {
  return rows.reduce((total, row) => total + row.count, 0);
}

function merge(asked: readonly AggregationRow[], ran: readonly AggregationRow[]) {
  const starts = new Map<number, { check?: AggregationRow; statement?: AggregationRow }>();
  const at = ({ startMs = 0 }: AggregationRow) => {
    const both = starts.get(startMs) ?? {};
    starts.set(startMs, both);
    return both;
  };
  for (const row of asked) at(row).check = row;
  for (const row of ran) at(row).statement = row;
  return [...starts].sort(([a], [b]) => a - b).map(([startMs, both]) => ({ startMs, ...both }));
}

function correlationText(correlation: Correlation, checked: number, unit: string): string[] {
  if (checked === 0) return ['no authorisation check is known in that time, so nothing can go together with latency'];
  const steps = `${numbered(correlation.pairs, 'step')} of ${unit} with a statement`;
  if (correlation.kind === 'too_few') {
    return [`too few to compare: ${steps}, and below ${PAIRS_MIN} chance alone looks like a connection`];
  }
  if (correlation.kind === 'constant') {
    const what = correlation.of === 'first' ? 'the number of checks' : 'database latency';
    return [`nothing to compare: ${what} was the same in ${steps}`];
  }
  const { r, low, high } = correlation;
  const strength = Math.abs(r) >= 0.7 ? 'strongly' : Math.abs(r) >= 0.4 ? 'somewhat' : 'weakly';
  const words =
    low <= 0 && high >= 0
      ? 'checks and database latency show no connection that chance would not explain'
      : `when there are more checks, statements are ${strength} ${r > 0 ? 'slower' : 'faster'}`;
  return [`${words}: r = ${r.toFixed(2)} (95 %: ${low.toFixed(2)} to ${high.toFixed(2)}) over ${steps}`];
}
