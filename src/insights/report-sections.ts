import type { Cell, Column, Table } from '../core/insight.ts';
import type { AggregationRow, Selection } from '../store/port.ts';
import {
  aggregateTargets,
  and,
  column,
  countOf,
  equals,
  exists,
  FAILED,
  NOBODY,
  not,
  numbered,
  only,
  percentText,
  type Question,
  REFUSED,
  rangeMs,
  table,
  textOf,
  timeText,
} from './question.ts';
import type { ReportPart, ReportSources } from './report.ts';
import { sensitive } from './sensitive.ts';

/** Rows of a table on paper; the insights and searches that the docs name have the rest. */
const ROWS_MAX = 40;

const DAY_MS = 86_400_000;
/** Steps of time on paper at most. */
const STEPS_MAX = 62;
const STEPS_MS = [DAY_MS / 24, DAY_MS, 7 * DAY_MS, 30 * DAY_MS];
/** The widest that a store counts by: what takes more steps of it than that gets them. */
const STEP_MS_MAX = 100 * DAY_MS;

const COUNTS = { counts: { refused: REFUSED, failed: FAILED } } as const;

const COUNT_COLUMNS = [
  column('accesses', 'Accesses', 'count'),
  column('refused', 'Refused', 'count'),
  column('failed', 'Failed', 'count'),
];

function countsOf(row: AggregationRow) {
  return { accesses: row.count, refused: countOf(row, 'refused'), failed: countOf(row, 'failed') };
}

/** The largest groups by these fields, each under its own column. */
async function groupsTable(
  { store }: ReportSources,
  selection: Selection,
  title: string,
  fields: readonly (Column & { readonly field: string; readonly missing: string })[],
  empty: string,
): Promise<Table> {
  const groupBy = fields.map(({ field }) => field);
  const rows = await store.aggregate(selection, {
    ...COUNTS,
    groupBy,
    withMissing: true,
    extent: true,
    limit: ROWS_MAX + 1,
  });
  const columns = [...fields.map(({ name, title: head, type }) => ({ name, title: head, type })), ...COUNT_COLUMNS];
  return table(
    title,
    [...columns, column('last', 'Last', 'time')],
    rows.map((row) => ({
      ...Object.fromEntries(fields.map(({ name, missing }, at) => [name, textOf(row.group[at], missing)])),
      ...countsOf(row),
      last: timeText(row.lastMs),
    })),
    { empty, limit: ROWS_MAX },
  );
}

function by(field: string, name: string, title: string, missing: string) {
  return { ...column(name, title), field, missing };
}

const BY_ACTOR = by('user.id', 'actor', 'Actor', NOBODY);
const BY_REASON = by('event.reason', 'reason', 'Why', '(no reason in evidence)');

/** What targets were reached, by whom. */
async function targetsTable(
  { store }: ReportSources,
  selection: Selection,
  title: string,
  empty: string,
): Promise<Table> {
  const rows = await aggregateTargets(store, selection, {
    ...{ ...COUNTS, groupBy: ['user.id'], withMissing: true, extent: true, limit: ROWS_MAX + 1 },
  });
  const columns = [
    column('target', 'Target'),
    column('actor', 'Actor'),
    ...COUNT_COLUMNS,
    column('last', 'Last', 'time'),
  ];
  const toRow = (row: AggregationRow): Record<string, Cell> => ({
    ...{ target: String(row.group[1]), actor: textOf(row.group[0], NOBODY) },
    ...{ ...countsOf(row), last: timeText(row.lastMs) },
  });
  return table(title, columns, rows.map(toRow), { empty, limit: ROWS_MAX });
}

/** The day alone where steps are days. */
function stepText(startMs: number | undefined, everyMs: number): string | null {
  const text = timeText(startMs);
  return everyMs < DAY_MS ? text : (text?.slice(0, 10) ?? null);
}

export const volumeSection: ReportPart = async (sources, { selection }) => {
  const { store } = sources;
  const { fromMs, toMs } = rangeMs(selection);
  const everyMs = STEPS_MS.find((step) => (toMs - fromMs) / step <= STEPS_MAX) ?? STEP_MS_MAX;
  const [steps, [whole], inner] = await Promise.all([
    store.aggregate(selection, { ...COUNTS, groupBy: [], everyMs, limit: 10_000 }),
    store.aggregate(selection, { ...COUNTS, groupBy: [], limit: 1 }),
    store.count({ ...only(selection, not(equals('audit.entry', true))), inner: true }),
  ]);
  const counts = whole ? countsOf(whole) : { accesses: 0, refused: 0, failed: 0 };
  const part = (count: number) => (counts.accesses === 0 ? '' : ` (${percentText(count / counts.accesses)})`);
  const step = everyMs < DAY_MS ? 'Hour' : everyMs === DAY_MS ? 'Day' : 'From';
  const empty = 'nothing was recorded in that time';
  return {
    title: 'What was recorded',
    for: ['NIST 800-53 AU-6 a', 'PCI DSS 10.4.1'],
    findings: [
      `${numbered(counts.accesses, 'access', 'accesses')}, and ${numbered(inner, 'inner access', 'inner accesses')} (statements, calls) made for them`,
      `${counts.refused.toLocaleString('en-US')} refused${part(counts.refused)}, ${counts.failed.toLocaleString('en-US')} failed otherwise${part(counts.failed)}`,
    ],
    tables: [
      table(
        'Over time',
        [column('start', step, everyMs < DAY_MS ? 'time' : 'text'), ...COUNT_COLUMNS],
        steps.map((row) => ({ start: stepText(row.startMs, everyMs), ...countsOf(row) })),
        { empty },
      ),
      await groupsTable(
        sources,
        selection,
        'By service',
        [by('service.name', 'service', 'Service', '(no name)')],
        empty,
      ),
      await groupsTable(sources, selection, 'By actor', [BY_ACTOR, by('audit.actor.type', 'type', 'Kind', '')], empty),
    ],
  };
};

export const sensitiveSection: ReportPart = async ({ store }, question) => {
  const asked: Question = {
    ...{ ...question, knownFromNs: question.selection.fromNs, granted: [] },
    ...{ limit: ROWS_MAX, by: 'mean', countMin: 1 },
  };
  return {
    title: 'Who reached sensitive targets',
    for: ['NIST 800-53 AU-6 a', 'PCI DSS 10.2.1.1', 'PCI DSS 10.4.1'],
    ...(await sensitive(store, asked)),
  };
};

export const refusedSection: ReportPart = async (sources, { selection }) => {
  const refused = only(selection, REFUSED);
  const count = await sources.store.count(refused);
  const empty = 'nothing was refused in that time';
  const claimed = only(refused, exists('audit.actor.claimed'));
  return {
    title: 'What was refused, and why',
    for: ['NIST 800-53 AU-6 a', 'PCI DSS 10.2.1.4', 'PCI DSS 10.4.1'],
    findings: [count === 0 ? empty : `${numbered(count, 'access was', 'accesses were')} refused`],
    tables: [
      await groupsTable(sources, refused, 'By reason', [BY_REASON], empty),
      await targetsTable(sources, refused, 'By target and actor', empty),
      await groupsTable(
        sources,
        claimed,
        'Attempts in a name that was not proven',
        [by('audit.actor.claimed', 'claimed', 'Claimed to be', ''), by('source.ip', 'address', 'From', '(not known)')],
        'no refused attempt in a name that was not proven',
      ),
    ],
  };
};

export const failedSection: ReportPart = async (sources, { selection }) => {
  const failed = only(selection, FAILED);
  const count = await sources.store.count(failed);
  const empty = 'nothing failed otherwise in that time';
  const fields = [
    by('error.type', 'error', 'Error', '(not named)'),
    by('audit.error_origin.service', 'origin', 'Where it began', '(not known)'),
  ];
  return {
    title: 'What failed otherwise, and why',
    for: ['NIST 800-53 AU-6 a', 'PCI DSS 10.4.1'],
    findings: [count === 0 ? empty : `${numbered(count, 'access', 'accesses')} failed without being refused`],
    tables: [
      await groupsTable(sources, failed, 'By error', fields, empty),
      await targetsTable(sources, failed, 'By target and actor', empty),
    ],
  };
};

export const changesSection: ReportPart = async (sources, { selection, changes }) => {
  // A GRANT is a statement, most often inside of a request.
  const changing = changes && { ...only(selection, changes), inner: true };
  const count = changing ? await sources.store.count(changing) : 0;
  const empty = changing
    ? 'no change of rights is known'
    : 'nothing says what a change of rights is: the definition `permission_change` of the rules is missing';
  const fields = [
    BY_ACTOR,
    by('event.action', 'action', 'Action', ''),
    by('audit.target.id', 'target', 'Target', '(not known)'),
  ];
  return {
    title: 'Who changed what others may do',
    for: ['NIST 800-53 AU-6 a', 'PCI DSS 10.2.1.5', 'PCI DSS 10.4.1'],
    findings: [count === 0 ? empty : `${numbered(count, 'change')} of accounts, roles or rights`],
    tables: changing ? [await groupsTable(sources, changing, 'Changes of rights', fields, empty)] : [],
  };
};

export const outOfBandSection: ReportPart = async (sources, { selection }) => {
  // Statements are entries only where no request stands above them; all of them are looked at.
  const aside = { ...only(selection, equals('audit.join.state', 'out_of_band')), inner: true };
  const count = await sources.store.count(aside);
  const empty = 'nothing is known to have gone around the services; docs/database-audit.md says what makes it known';
  return {
    title: 'What went around the services',
    for: ['NIST 800-53 AU-6 (3)', 'PCI DSS 10.4.1'],
    findings: [count === 0 ? empty : `${numbered(count, 'access', 'accesses')} with no request above`],
    tables: [await targetsTable(sources, aside, 'Accesses out of band', empty)],
  };
};

export const unknownSection: ReportPart = async (sources, { selection }) => {
  const unknown = only(selection, not(exists('user.id')));
  const count = await sources.store.count(unknown);
  const empty = 'it is known of every access who made it';
  const fields = [
    by('service.name', 'service', 'Service', '(no name)'),
    by('event.action', 'action', 'Action', ''),
    by('source.ip', 'address', 'From', '(not known)'),
  ];
  return {
    title: 'Accesses by nobody who is known',
    for: ['NIST 800-53 AU-3 f', 'PCI DSS 10.2.2'],
    findings: [count === 0 ? empty : `of ${numbered(count, 'access', 'accesses')} it is not known who made them`],
    tables: [await groupsTable(sources, unknown, 'By service', fields, empty)],
  };
};

/** Records of questions to this very audit trail: nobody else may send as `spantrail`. */
const OWN_READS = and(equals('service.name', 'spantrail'), equals('audit.evidence.sender', 'spantrail'));

export const readsSection: ReportPart = async (sources, { selection }) => {
  const reads = only(selection, OWN_READS);
  const count = await sources.store.count(reads);
  const empty = 'no search, view or export is recorded; they are recorded while authentication is on';
  const fields = [BY_ACTOR, by('event.action', 'action', 'Action', ''), by('audit.target.type', 'what', 'Of', '')];
  return {
    title: 'Who read this audit trail',
    for: ['NIST 800-53 AU-9', 'PCI DSS 10.2.1.3'],
    findings: [count === 0 ? empty : `${numbered(count, 'question was', 'questions were')} asked of it`],
    tables: [await groupsTable(sources, reads, 'Searches, views and exports', fields, empty)],
  };
};
