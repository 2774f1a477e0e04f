import type { AggregationRow, Store } from '../store/port.ts';
import {
  type Answer,
  column,
  countOf,
  equals,
  exists,
  only,
  percentText,
  type Question,
  share,
  table,
  textOf,
} from './question.ts';

const STATE = 'audit.pressure.state';
const RATIO = 'audit.pressure.ratio';

/** Accesses below which a share of failures says nothing. */
const ACCESSES_MIN = 10;

const COUNTS = { counts: { failed: equals('event.outcome', 'failure') }, limit: 1000 } as const;

const STATES = ['exhausted', 'high', 'normal'];

/** How many accesses failed while a resource was near its limit, beside how many failed while none was. */
export async function pressure(store: Store, question: Question): Promise<Answer> {
  const { selection, limit } = question;
  const [[all], known, metrics] = await Promise.all([
    store.aggregate(selection, { ...COUNTS, groupBy: [] }),
    store.aggregate(only(selection, exists(STATE)), { ...COUNTS, groupBy: [STATE] }),
    store.aggregate(only(selection, exists(STATE)), {
      ...COUNTS,
      groupBy: ['audit.pressure.metric', STATE],
      measures: [RATIO],
    }),
  ]);
  const states = [...known, ...restOf(all, known)];
  const measured = [...STATES, null].flatMap((state) => states.find(({ group }) => group[0] === state) ?? []);
  const counts = [
    column('accesses', 'Accesses', 'count'),
    column('failed', 'Failed', 'count'),
    column('share', 'Of them', 'share'),
  ];
  return {
    findings: findingsOf(states),
    tables: [
      table(
        'Failures by pressure',
        [column('state', 'Pressure'), ...counts],
        measured.map((row) => ({ state: textOf(row.group[0], '(not measured)'), ...toRow(row) })),
        { empty: 'no access in that time' },
      ),
      table(
        'Failures by the resource nearest its limit',
        [column('metric', 'Resource'), column('state', 'Pressure'), ...counts, column('highest', 'Highest', 'share')],
        metrics.map((row) => ({
          metric: String(row.group[0]),
          state: String(row.group[1]),
          ...toRow(row),
          highest: row.measures?.[RATIO]?.max ?? null,
        })),
        { empty: 'no access has a resource metric near it; docs/pressure.md says how to send them', limit },
      ),
    ],
  };
}

/** Accesses that no state is known of: counted as what is left, since a store finds what is there much faster. */
function restOf(all: AggregationRow | undefined, known: readonly AggregationRow[]): AggregationRow[] {
  const left = (value: (row: AggregationRow) => number) =>
    (all ? value(all) : 0) - known.reduce((sum, row) => sum + value(row), 0);
  const count = left((row) => row.count);
  return count > 0 ? [{ group: [null], count, counts: { failed: left((row) => countOf(row, 'failed')) } }] : [];
}

function toRow(row: AggregationRow) {
  const failed = countOf(row, 'failed');
  return { accesses: row.count, failed, share: share(failed, row.count) };
}

function findingsOf(states: readonly AggregationRow[]): string[] {
  const of = (names: readonly string[]) => {
    const rows = states.filter(({ group }) => names.includes(String(group[0])));
    const sum = (value: (row: AggregationRow) => number) => rows.reduce((total, row) => total + value(row), 0);
    return { accesses: sum((row) => row.count), failed: sum((row) => countOf(row, 'failed')) };
  };
  const [pressed, calm] = [of(['high', 'exhausted']), of(['normal'])];
  if (pressed.accesses + calm.accesses === 0)
    return ['no access has a resource metric near it: nothing can be compared'];
  if (pressed.accesses === 0) return ['no resource was near its limit'];
  if (pressed.accesses < ACCESSES_MIN || calm.accesses < ACCESSES_MIN) {
    const counts = `${pressed.accesses} accesses under pressure, ${calm.accesses} without`;
    return [`too few to compare: ${counts}, and ${ACCESSES_MIN} of each are needed`];
  }
  const [under, without] = [pressed.failed / pressed.accesses, calm.failed / calm.accesses];
  const times = without > 0 ? `, ${(under / without).toFixed(1)} times as many` : '';
  return [`${percentText(under)} of accesses failed under pressure, ${percentText(without)} without${times}`];
}
