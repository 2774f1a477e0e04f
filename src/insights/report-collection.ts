import { nsToMs } from '../core/clock.ts';
import type { AggregationRow } from '../store/port.ts';
import { column, equals, exists, numbered, table } from './question.ts';
import type { ReportPart } from './report.ts';

const GAPS_MAX = 100;

/** What is known to be missing. */
export const coverageSection: ReportPart = async ({ coverage }, { selection }) => {
  const { fromNs, toNs, namespace } = selection;
  const answer = coverage.answer({
    ...{ fromMs: nsToMs(fromNs), toMs: nsToMs(toNs) },
    ...(namespace === undefined ? {} : { namespace }),
  });
  const gaps = [...answer.gaps, ...answer.services.flatMap((service) => service.gaps)].toSorted((a, b) =>
    a.from === b.from ? (a.text < b.text ? -1 : 1) : a.from < b.from ? -1 : 1,
  );
  const columns = [
    column('from', 'From', 'time'),
    column('to', 'To', 'time'),
    column('kind', 'Gap'),
    column('service', 'Service'),
    column('text', 'What is missing'),
  ];
  const rows = gaps.map(({ from, to, kind, service = '(all)', text }) => ({ from, to, kind, service, text }));
  return {
    title: 'What is known to be missing',
    for: ['NIST 800-53 AU-5', 'NIST 800-53 AU-6 (1)', 'PCI DSS 10.2.1.6', 'PCI DSS 10.7.2'],
    findings: [answer.text, `${numbered(answer.services.length, 'service was', 'services were')} heard in that time`],
    tables: [table('Gaps', columns, rows, { empty: 'no gap that could be observed', limit: GAPS_MAX })],
  };
};

/** In words; docs/coverage.md and docs/operations.md say what helps. */
const STATES: Readonly<Record<string, string>> = {
  complete: 'the whole request is known',
  partial: 'a part of the request is missing',
  unsampled: 'the request was not sampled',
  orphan: 'came too late to be joined',
  out_of_band: 'no request stands above it',
};

/** How well records were joined, and whether all that was accepted is accounted for. */
export const healthSection: ReportPart = async ({ store, differences }, { selection }) => {
  const all = { ...selection, inner: true };
  const [states, lost] = await Promise.all([
    store.aggregate(all, {
      groupBy: ['audit.join.state'],
      withMissing: true,
      counts: { late: equals('audit.join.late', true), conflicts: exists('audit.join.conflicts') },
      limit: 10,
    }),
    differences(),
  ]);
  const columns = [
    column('state', 'State'),
    column('meaning', 'Meaning'),
    column('records', 'Records', 'count'),
    column('late', 'Changed by late evidence', 'count'),
    column('conflicts', 'Evidence contradicts itself', 'count'),
  ];
  const toRow = (row: AggregationRow) => {
    const state = String(row.group[0] ?? '');
    const { late = 0, conflicts = 0 } = row.counts ?? {};
    return { state, meaning: STATES[state] ?? '', records: row.count, late, conflicts };
  };
  return {
    title: 'Health of the collection',
    for: ['NIST 800-53 AU-5', 'PCI DSS 10.7.2'],
    findings: lost.length === 0 ? ['everything that was ever accepted is accounted for'] : lost,
    tables: [table('How records were joined', columns, states.map(toRow), { empty: 'no record in that time' })],
  };
};
