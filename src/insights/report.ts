import { formatTimestamp } from '../core/clock.ts';
import type { CoverageAnswer, CoverageQuestion } from '../core/coverage.ts';
import type { Report, ReportSection } from '../core/insight.ts';
import type { Query } from '../query/ast.ts';
import type { Selection, Store } from '../store/port.ts';
import { alertsSection } from './report-alerts.ts';
import { coverageSection, healthSection } from './report-collection.ts';
import {
  changesSection,
  failedSection,
  outOfBandSection,
  readsSection,
  refusedSection,
  sensitiveSection,
  unknownSection,
  volumeSection,
} from './report-sections.ts';

/** What a report is asked about. */
export interface ReportQuestion {
  /** Entries of a stretch of time. */
  readonly selection: Selection & { readonly fromNs: bigint; readonly toNs: bigint };
  readonly sensitive: Query | undefined;
  /** Which accesses change who may do what; undefined when nothing says so. */
  readonly changes: Query | undefined;
}

/** Where a report is made of. */
export interface ReportSources {
  readonly store: Store;
  readonly coverage: { answer(question: CoverageQuestion): CoverageAnswer };
  /** Rules at work; undefined when rules are switched off. */
  rules(): number | undefined;
  /** What cannot be accounted for of what was ever accepted, in words; nothing when the sums are whole. */
  differences(): Promise<readonly string[]>;
}

export type ReportPart = (sources: ReportSources, question: ReportQuestion) => Promise<ReportSection>;

/** In the order in which a reviewer reads them. */
const PARTS: readonly ReportPart[] = [
  volumeSection,
  sensitiveSection,
  refusedSection,
  failedSection,
  changesSection,
  alertsSection,
  outOfBandSection,
  unknownSection,
  readsSection,
  coverageSection,
  healthSection,
];

/** Nothing of it depends on when it is made: only on what is stored and known of that time, and whether rules watch. */
export async function buildReport(sources: ReportSources, question: ReportQuestion): Promise<Report> {
  const { fromNs, toNs, namespace } = question.selection;
  const sections: ReportSection[] = [];
  for (const part of PARTS) sections.push(await part(sources, question));
  return {
    from: formatTimestamp(fromNs),
    to: formatTimestamp(toNs),
    ...(namespace === undefined ? {} : { namespace }),
    sections,
  };
}
