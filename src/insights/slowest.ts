import type { AggregationRow, Selection, Store } from '../store/port.ts';
import { LATENCY_BOUNDS_NS, percentileNs } from './latency.ts';
import {
  type Answer,
  aggregateTargets,
  column,
  forEach,
  isTarget,
  meanOf,
  NOBODY,
  numbered,
  only,
  type Question,
  share,
  table,
  textOf,
} from './question.ts';

const DURATION = 'event.duration';

/** People that are named for each target. */
const WAITING = 5;

const TITLES = { mean: 'by mean', sum: 'by time waited in all', max: 'by the one slowest' } as const;

/** Targets that let wait the longest, and who waited. */
export async function slowest(store: Store, question: Question): Promise<Answer> {
  const { selection, limit, by, countMin } = question;
  const found = await aggregateTargets(store, selection, {
    groupBy: [],
    measures: [DURATION],
    orderBy: { field: DURATION, by },
    countMin,
    limit: limit + 1,
  });
  const answers = await forEach(found.slice(0, limit), async (row) => {
    const target = String(row.group[0]);
    const own = only(selection, isTarget(target));
    const [bands, actors] = await Promise.all([bandsOf(store, own), actorsOf(store, own)]);
    return { target: toRow(target, row, bands), waiting: waitingRows(target, row, actors) };
  });
  const targets = answers.map(({ target }) => target);
  const waiting = answers.flatMap((answer) => answer.waiting);
  const few = countMin > 1 ? `; targets with fewer than ${numbered(countMin, 'access', 'accesses')} are left out` : '';
  const first = targets[0];
  return {
    findings: first
      ? [`${first.target} is the slowest ${TITLES[by]}${few}`]
      : [`no target with ${numbered(countMin, 'access', 'accesses')} in that time`],
    tables: [
      {
        ...table(`Slowest targets, ${TITLES[by]}`, TARGET_COLUMNS, targets, {
          empty: `no target with ${numbered(countMin, 'access', 'accesses')} in that time`,
        }),
        more: found.length > limit,
      },
      table('Who waits for them', WAITING_COLUMNS, waiting, { empty: 'nobody waits' }),
    ],
  };
}

const TARGET_COLUMNS = [
  column('target', 'Target'),
  column('accesses', 'Accesses', 'count'),
  column('mean', 'Mean', 'duration'),
  column('p95', '95 of 100 within', 'duration'),
  column('slowest', 'Slowest', 'duration'),
  column('waited', 'Waited in all', 'duration'),
];

const WAITING_COLUMNS = [
  column('target', 'Target'),
  column('actor', 'Actor'),
  column('accesses', 'Accesses', 'count'),
  column('mean', 'Mean', 'duration'),
  column('waited', 'Waited in all', 'duration'),
  column('share', 'Of the wait', 'share'),
];

async function bandsOf(store: Store, selection: Selection): Promise<readonly number[]> {
  const bands = { field: DURATION, bounds: LATENCY_BOUNDS_NS };
  const [row] = await store.aggregate(selection, { groupBy: [], bands, limit: 1 });
  return row?.bands ?? [];
}

function actorsOf(store: Store, selection: Selection): Promise<readonly AggregationRow[]> {
  return store.aggregate(selection, {
    groupBy: ['user.id'],
    withMissing: true,
    measures: [DURATION],
    orderBy: { field: DURATION, by: 'sum' },
    limit: WAITING,
  });
}

function toRow(target: string, row: AggregationRow, bands: readonly number[]) {
  const measured = row.measures?.[DURATION];
  return {
    target,
    accesses: row.count,
    mean: meanOf(measured),
    p95: percentileNs(bands, 95, measured?.max),
    slowest: measured?.max ?? null,
    waited: measured?.sum ?? null,
  };
}

function waitingRows(target: string, of: AggregationRow, actors: readonly AggregationRow[]) {
  return actors.map((row) => {
    const measured = row.measures?.[DURATION];
    return {
      target,
      actor: textOf(row.group[0], NOBODY),
      accesses: row.count,
      mean: meanOf(measured),
      waited: measured?.sum ?? null,
      share: share(measured?.sum ?? 0, of.measures?.[DURATION]?.sum ?? 0),
    };
  });
}
