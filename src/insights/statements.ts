import type { AggregationRow, Store } from '../store/port.ts';
import {
  type Answer,
  column,
  equals,
  exists,
  forEach,
  meanOf,
  NOBODY,
  only,
  type Question,
  table,
  textOf,
} from './question.ts';

const DURATION = 'event.duration';

/** Accesses that are named for each statement. */
const BEHIND = 5;

/** Statements that took the longest, and the accesses that ran them. Inner accesses are looked at: statements are such. */
export async function statements(store: Store, question: Question): Promise<Answer> {
  const { limit, by, countMin } = question;
  const selection = { ...only(question.selection, exists('db.statement')), inner: true };
  const found = await store.aggregate(selection, {
    groupBy: ['db.statement'],
    measures: [DURATION],
    orderBy: { field: DURATION, by },
    countMin,
    limit: limit + 1,
  });
  const behind = await forEach(found.slice(0, limit), async (row, at) => {
    const rows = await store.aggregate(only(selection, equals('db.statement', String(row.group[0]))), {
      groupBy: ['user.id', 'audit.entry_action', 'audit.entry_target'],
      withMissing: true,
      measures: [DURATION],
      orderBy: { field: DURATION, by: 'sum' },
      limit: BEHIND,
    });
    return rows.map((access) => behindRow(at + 1, access));
  });
  const empty = `no statement was run ${countMin > 1 ? `${countMin} times ` : ''}in that time`;
  const rows = found.slice(0, limit).map((row, at) => toRow(at + 1, row));
  return {
    findings: rows[0] ? [`the slowest is ${rows[0].statement}`] : [empty],
    tables: [
      { ...table('Slowest statements', STATEMENT_COLUMNS, rows, { empty }), more: found.length > limit },
      table('Accesses behind them', BEHIND_COLUMNS, behind.flat(), { empty }),
    ],
  };
}

const MEASURED = [
  column('mean', 'Mean', 'duration'),
  column('slowest', 'Slowest', 'duration'),
  column('total', 'In all', 'duration'),
];

const STATEMENT_COLUMNS = [
  column('number', '#', 'count'),
  column('statement', 'Statement'),
  column('runs', 'Runs', 'count'),
  ...MEASURED,
];

const BEHIND_COLUMNS = [
  column('number', '#', 'count'),
  column('actor', 'Actor'),
  column('action', 'Action'),
  column('target', 'Target'),
  column('runs', 'Runs', 'count'),
  ...MEASURED,
];

function measuresOf({ count, measures }: AggregationRow) {
  const measured = measures?.[DURATION];
  return { runs: count, mean: meanOf(measured), slowest: measured?.max ?? null, total: measured?.sum ?? null };
}

function toRow(number: number, row: AggregationRow) {
  return { number, statement: String(row.group[0]), ...measuresOf(row) };
}

/** A statement that no access stands above, such as one that went around the services, is its own. */
function behindRow(number: number, row: AggregationRow) {
  const [actor, action, target] = row.group;
  return {
    number,
    actor: textOf(actor, NOBODY),
    action: textOf(action, '(the statement itself)'),
    target: textOf(target, ''),
    ...measuresOf(row),
  };
}
