import type { FastifyInstance } from 'fastify';
import type { RuleStatus } from '../core/alert.ts';
import type { Clock } from '../core/clock.ts';
import { AppError } from '../core/errors.ts';
import { INSIGHTS, type Insight, type InsightName } from '../core/insight.ts';
import { askInsight } from '../insights/insights.ts';
import type { Granted, Question } from '../insights/question.ts';
import { buildReport } from '../insights/report.ts';
import { reportHtml } from '../insights/report-html.ts';
import { reportMarkdown } from '../insights/report-markdown.ts';
import { EVERYTHING, type Query } from '../query/ast.ts';
import type { Store } from '../store/port.ts';
import type { PipelineAnswer, Sum } from './contract.ts';
import type { CoverageSource } from './coverage.ts';
import { insightQuery, reportQuery } from './insight-contract.ts';
import { checkParameters, parseInstant, parseQueryText, QueryTextError, toRange } from './selection.ts';

/** What the settings say for insights. */
export interface InsightSettings {
  /** Which accesses are sensitive, as query text, definitions expanded; undefined when nothing says so. */
  readonly sensitive: string | undefined;
  /** Which accesses change who may do what, in the same way. */
  readonly changes?: string | undefined;
  readonly granted: readonly Granted[];
}

interface Needs {
  readonly store: Store;
  readonly clock: Clock;
  readonly insights: InsightSettings;
  readonly coverage: CoverageSource;
  pipeline(): Promise<PipelineAnswer>;
  /** Absent when rules are switched off. */
  readonly rules?: { rules(): readonly RuleStatus[] };
}

/** What is known of roles without `known_from`: this long before the range. */
const KNOWN_NS = 90n * 86_400n * 1_000_000_000n;

export function addInsightRoutes(server: FastifyInstance, needs: Needs): void {
  const { store, clock, insights } = needs;
  addReportRoute(server, needs);

  server.get('/api/v1/insights', async () => ({
    insights: Object.entries(INSIGHTS).map(([name, title]) => ({ name, title })),
  }));

  server.get('/api/v1/insights/:name', async (request): Promise<Insight> => {
    const { name } = request.params as { name: string };
    if (!isInsight(name)) {
      throw new AppError('not_found', `no insight ${name}; there are ${Object.keys(INSIGHTS).join(', ')}`);
    }
    const { q, from, to, namespace, inner, limit, by, min, known_from, sensitive } = checkParameters(
      insightQuery,
      request.query,
    );
    const nowMs = clock.nowMs();
    const { fromNs = 0n, toNs = 0n } = toRange({ from, to }, nowMs);
    const earlier = fromNs > KNOWN_NS ? fromNs - KNOWN_NS : 0n;
    const knownFromNs = known_from === undefined ? earlier : parseInstant('known_from', known_from, nowMs);
    const question: Question = {
      selection: {
        ...{ query: parseQueryText(q, nowMs), inner, fromNs, toNs },
        ...(namespace === undefined ? {} : { namespace }),
      },
      ...{ knownFromNs, limit, by, countMin: min, granted: insights.granted },
      sensitive: parseSensitive(sensitive, insights, nowMs),
    };
    return askInsight(name, store, question);
  });
}

function addReportRoute(
  server: FastifyInstance,
  { store, clock, insights, coverage, pipeline, ...needs }: Needs,
): void {
  const rules = () => needs.rules?.rules().filter(({ state }) => state === 'on').length;
  const differences = async () => (await pipeline()).sums.filter(({ difference }) => difference !== 0).map(lossText);
  server.get('/api/v1/report', async (request, reply) => {
    const { from, to, namespace, sensitive, format } = checkParameters(reportQuery, request.query);
    const nowMs = clock.nowMs();
    const { fromNs = 0n, toNs = 0n } = toRange({ from, to }, nowMs);
    const selection = {
      ...{ query: EVERYTHING, inner: false, fromNs, toNs },
      ...(namespace === undefined ? {} : { namespace }),
    };
    const changes = insights.changes === undefined ? undefined : parseQueryText(insights.changes, nowMs);
    const question = { selection, sensitive: parseSensitive(sensitive, insights, nowMs), changes };
    const report = await buildReport({ store, coverage, rules, differences }, question);
    if (format === 'json') return report;
    const isPage = format === 'html';
    const name = `spantrail-report-${report.from.slice(0, 10)}-${report.to.slice(0, 10)}.${format}`;
    return reply
      .type(isPage ? 'text/html; charset=utf-8' : 'text/markdown; charset=utf-8')
      .header('content-disposition', `inline; filename="${name}"`)
      .send(isPage ? reportHtml(report) : reportMarkdown(report));
  });
}

function lossText({ of, difference }: Sum): string {
  return `${difference} of all ${of} ever accepted are not accounted for: see "spantrail doctor"`;
}

function isInsight(name: string): name is InsightName {
  return Object.hasOwn(INSIGHTS, name);
}

/** Throws as a query does, naming the parameter; what the settings say was checked when they were read. */
export function parseSensitive(
  text: string | undefined,
  { sensitive }: InsightSettings,
  nowMs: number,
): Query | undefined {
  const wanted = text === undefined || text.trim() === '' ? sensitive : text;
  if (wanted === undefined) return undefined;
  try {
    return parseQueryText(wanted, nowMs);
  } catch (error) {
    if (!(error instanceof QueryTextError)) throw error;
    throw new AppError('bad_request', error.message.replace(/^q:/, 'sensitive:'));
  }
}
