import type { AggregationRow, Store } from '../store/port.ts';
import {
  type Answer,
  aggregateTargets,
  column,
  countOf,
  FAILED,
  NOBODY,
  numbered,
  only,
  type Question,
  REFUSED,
  table,
  textOf,
  timeText,
} from './question.ts';

export const NOTHING_SENSITIVE =
  'nothing is called sensitive: say which accesses are, with --sensitive or the definition `sensitive` of the rules';

const MEASURES = { withMissing: true, counts: { refused: REFUSED, failed: FAILED }, extent: true } as const;

const COUNTS = [
  column('accesses', 'Accesses', 'count'),
  column('refused', 'Refused', 'count'),
  column('failed', 'Failed', 'count'),
  column('first', 'First', 'time'),
  column('last', 'Last', 'time'),
];

/** Who reached what is called sensitive, and who tried to. */
export async function sensitive(store: Store, question: Question): Promise<Answer> {
  const { limit } = question;
  const empty = question.sensitive ? 'no access to a sensitive target in that time' : NOTHING_SENSITIVE;
  const [byActor, byTarget] = question.sensitive
    ? await Promise.all([
        store.aggregate(only(question.selection, question.sensitive), {
          ...MEASURES,
          groupBy: ['user.id'],
          limit: limit + 1,
        }),
        aggregateTargets(store, only(question.selection, question.sensitive), {
          ...MEASURES,
          groupBy: ['user.id'],
          limit: limit + 1,
        }),
      ])
    : [[], []];
  const total = question.sensitive ? await store.count(only(question.selection, question.sensitive)) : 0;
  const findings = question.sensitive
    ? [`${numbered(total, 'access', 'accesses')} to sensitive targets`, ...unknownActors(byActor)]
    : [NOTHING_SENSITIVE];
  return {
    findings,
    tables: [
      table('Actors', [column('actor', 'Actor'), ...COUNTS], byActor.map(toRow), { empty, limit }),
      table(
        'Sensitive targets by actor',
        [column('target', 'Target'), column('actor', 'Actor'), ...COUNTS],
        byTarget.map((row) => ({ target: String(row.group[1]), ...toRow(row) })),
        { empty, limit },
      ),
    ],
  };
}

function toRow(row: AggregationRow) {
  return {
    actor: textOf(row.group[0], NOBODY),
    accesses: row.count,
    refused: countOf(row, 'refused'),
    failed: countOf(row, 'failed'),
    first: timeText(row.firstMs),
    last: timeText(row.lastMs),
  };
}

function unknownActors(rows: readonly AggregationRow[]): string[] {
  const unknown = rows.find(({ group }) => group[0] === null);
  return unknown ? [`${numbered(unknown.count, 'access', 'accesses')} of these by nobody who is known`] : [];
}
