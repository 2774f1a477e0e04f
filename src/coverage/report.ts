import { formatTimestamp, msToNs } from '../core/clock.ts';
import type {
  CoverageAnswer,
  CoverageGap,
  CoverageQuestion,
  CoverageSummary,
  GapKind,
  ServiceCoverage,
} from '../core/coverage.ts';
import type { Cell, CoverageFacts, ServiceHours } from './facts.ts';
import { type Gap, type GapSettings, gapsOfAll, gapsOfService, isWithin, type Range } from './gaps.ts';

export interface ReportOptions {
  readonly facts: CoverageFacts;
  readonly settings: GapSettings;
  readonly nowMs: number;
  /** Evidence that was received before it is counted; what waits to be stored is not. */
  readonly countedUntilMs: number;
  /** Nothing is known of the time before. */
  readonly knownSinceMs: number;
}

/** Gaps that a list of records names; the page of coverage has all. */
const SUMMARY_GAPS_MAX = 10;

interface Found {
  readonly question: CoverageQuestion;
  readonly range: Range;
  readonly services: readonly {
    readonly hours: ServiceHours;
    readonly cells: readonly Cell[];
    readonly gaps: readonly Gap[];
  }[];
  readonly gaps: readonly Gap[];
}

function find(question: CoverageQuestion, { facts, settings, nowMs, countedUntilMs }: ReportOptions): Found {
  const range = { fromMs: question.fromMs ?? Number.NEGATIVE_INFINITY, toMs: question.toMs ?? nowMs + 1 };
  const wanted = facts.services.filter(
    ({ namespace, service }) =>
      (question.namespace === undefined || question.namespace === namespace) &&
      (question.services === undefined || question.services.includes(service)),
  );
  const services = wanted.flatMap((hours) => {
    const cells = hours.cells.filter((cell) => isWithin(range, cell.firstMs, cell.lastMs));
    const gaps = gapsOfService(hours, range, { runs: facts.runs, settings, nowMs: countedUntilMs });
    return cells.length + gaps.length === 0 ? [] : [{ hours, cells, gaps }];
  });
  return { question, range, services, gaps: gapsOfAll(facts, range, { settings, nowMs }) };
}

/** Everything that is known of the range, by service. */
export function coverageAnswer(question: CoverageQuestion, options: ReportOptions): CoverageAnswer {
  const found = find(question, options);
  const services = found.services
    .map(({ hours, cells, gaps }) => describeService(hours, cells, gaps))
    .sort((a, b) => compare(a.namespace, b.namespace) || compare(a.service, b.service));
  return {
    watching: true,
    known_since: instant(options.knownSinceMs),
    ...(question.fromMs === undefined ? {} : { from: instant(question.fromMs) }),
    to: instant(question.toMs ?? options.nowMs),
    services,
    gaps: newestFirst(found.gaps).map(toGap),
    text: summaryText(found, options),
  };
}

/** The same in short, for a list of records. */
export function coverageSummary(question: CoverageQuestion, options: ReportOptions): CoverageSummary {
  const found = find(question, options);
  const gaps = newestFirst([...found.gaps, ...found.services.flatMap((service) => service.gaps)]);
  return {
    text: summaryText(found, options),
    watching: true,
    known_since: instant(options.knownSinceMs),
    services: found.services.length,
    gap_count: gaps.length,
    gaps: gaps.slice(0, SUMMARY_GAPS_MAX).map(toGap),
  };
}

/** How many gaps of each kind touch the range. */
export function countGaps(question: CoverageQuestion, options: ReportOptions): Map<GapKind, number> {
  const found = find(question, options);
  const counts = new Map<GapKind, number>();
  for (const { kind } of [...found.gaps, ...found.services.flatMap((service) => service.gaps)]) {
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }
  return counts;
}

const OFF = { watching: false, text: 'not watched (coverage.enabled is false)', services: 0, gaps: [] } as const;

/** What is answered while coverage is switched off. */
export function notWatchedAnswer(nowMs: number): CoverageAnswer {
  return { ...OFF, services: [], to: instant(nowMs) };
}

export function notWatchedSummary(): CoverageSummary {
  return { ...OFF, gap_count: 0 };
}

function summaryText({ question, services, gaps, range }: Found, { knownSinceMs }: ReportOptions): string {
  const count = gaps.length + services.reduce((total, service) => total + service.gaps.length, 0);
  // Nothing is said of the time before, which a range that begins later does not touch.
  const since = range.fromMs < knownSinceMs ? ` since ${minute(knownSinceMs)}` : '';
  if (count > 0) return `${count} ${count === 1 ? 'gap' : 'gaps'} observed${since}`;
  if (services.length === 0) {
    return `no evidence of ${question.services?.join(', ') || 'any service'}${since}, so nothing can be said`;
  }
  return `no gap observed${since} (${services.length} ${services.length === 1 ? 'service' : 'services'})`;
}

function describeService(
  { namespace, service }: ServiceHours,
  cells: readonly Cell[],
  gaps: readonly Gap[],
): ServiceCoverage {
  const total = (amount: (cell: Cell) => number) => cells.reduce((sum, cell) => sum + amount(cell), 0);
  const stated = cells.filter((cell) => cell.probabilityMax > 0);
  const times = gaps.flatMap(({ fromMs, toMs }) => [fromMs, toMs]);
  return {
    namespace,
    service,
    hours: cells.filter((cell) => cell.spans + cell.logs > 0).length,
    first_seen: instant(cells[0]?.firstMs ?? Math.min(...times)),
    last_seen: instant(cells.at(-1)?.lastMs ?? Math.min(...times)),
    spans: total((cell) => cell.spans),
    roots: total((cell) => cell.roots),
    logs: total((cell) => cell.logs),
    sampling: {
      stated: total((cell) => cell.stated),
      sampled: total((cell) => cell.sampled),
      unsampled: total((cell) => cell.unsampled),
      ...(stated.length === 0
        ? {}
        : {
            probability_min: Math.min(...stated.map((cell) => cell.probabilityMin)),
            probability_max: Math.max(...stated.map((cell) => cell.probabilityMax)),
          }),
    },
    missing_parents: {
      of: total((cell) => cell.children),
      same_process: total((cell) => cell.missingLocal),
      other_process: total((cell) => cell.missingRemote),
    },
    gaps: newestFirst(gaps).map(toGap),
  };
}

function toGap({ fromMs, toMs, ...gap }: Gap): CoverageGap {
  return { ...gap, from: instant(fromMs), to: instant(toMs) };
}

function newestFirst(gaps: readonly Gap[]): Gap[] {
  return gaps.toSorted((a, b) => b.toMs - a.toMs || b.fromMs - a.fromMs || compare(a.text, b.text));
}

function instant(milliseconds: number): string {
  return formatTimestamp(msToNs(milliseconds));
}

/** `2026-11-22 13:05Z`. */
function minute(milliseconds: number): string {
  return `${instant(milliseconds).slice(0, 16).replace('T', ' ')}Z`;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
