import type { Command } from 'commander';
import type { CoverageAnswer, CoverageGap, CoverageSummary, GapKind, ServiceCoverage } from '../core/coverage.ts';
import { asking, type Connection, connect } from './connection.ts';
import { createPaint, jsonLine, type Paint, printable } from './format.ts';
import type { Terminal } from './main.ts';

interface CoverageOptions extends Connection {
  readonly from?: string;
  readonly to?: string;
  readonly namespace?: string;
  readonly service?: string;
}

/** What helps against each kind of gap; docs/coverage.md says more. */
const ADVICE: Readonly<Record<GapKind, string>> = {
  sampling: 'send to Spantrail before any sampler; what must not be missed is sent as an access event',
  unsampled: 'let the sampler at the root keep every trace; what must not be missed is sent as an access event',
  missing_parents: 'point every service at Spantrail, look at the exporters’ dropped spans, sample by whole trace only',
  silence: 'see whether the service, its exporter and the Collector run',
  misdated: 'set the clock of the machine (NTP); look for a queue that delivers after weeks',
  down: 'give senders a queue on disk, such as the Collector’s, so that they can wait',
  refused: 'see "spantrail doctor"; give senders a queue on disk, such as the Collector’s',
  unwatched: 'raise coverage.servicesMax, or give service.name to services, not to processes',
  unknown: 'see the log of that start; the file was put aside in coverage/ of the data folder',
};

/** `spantrail coverage`. */
export function addCoverageCommand(program: Command, terminal: Terminal): void {
  const paint = createPaint(terminal.colours);
  asking(program.command('coverage'))
    .description('What was seen of each service, and what is known to be missing')
    .option('--from <time>', 'earliest: RFC 3339, or back from now like -15m, -2h, -7d')
    .option('--to <time>', 'before this time')
    .option('--service <name>', 'only this service')
    .option('--namespace <name>', 'only this namespace')
    .option('--json', 'the JSON document')
    .addHelpText(
      'after',
      `
Spans are best-effort evidence: a gap that nobody can see is not named. docs/coverage.md says what each gap means.

Examples:
  spantrail coverage --from -1d                 every service of the last day
  spantrail coverage --service orders           one service, as far back as is remembered
  spantrail coverage --json | jq '.services[].gaps'`,
    )
    .action(async ({ from, to, service, namespace, ...options }: CoverageOptions) => {
      const client = connect(options, terminal);
      const answer = await client.get<CoverageAnswer>('/api/v1/coverage', { from, to, service, namespace });
      if (options.json) return terminal.write(jsonLine(answer));
      if (answer.services.length > 0) terminal.write(servicesText(answer.services, paint));
      const gaps = gapsOf(answer);
      if (gaps.length > 0) terminal.write(`${answer.services.length > 0 ? '\n' : ''}${gapsText(gaps, paint)}`);
      terminal.warn(`coverage: ${answer.text}`);
      if (answer.watching && answer.services.length === 0) terminal.warn(whyNothing({ from, to, service, namespace }));
    });
}

/** The last words of a list of records: that nothing is known to be missing, or what is. Several lines. */
export function coverageText({ text, gaps, gap_count }: CoverageSummary): string {
  const rest = gap_count - gaps.length;
  return [
    `coverage: ${text}`,
    ...gaps.map((gap) => `  ${gapTime(gap)}  ${gap.text}`),
    ...(rest > 0 ? [`  and ${rest} more`] : []),
    ...(gaps.length > 0 ? ['  "spantrail coverage" says more'] : []),
  ].join('\n');
}

function whyNothing(chosen: Readonly<Record<string, string | undefined>>): string {
  return Object.values(chosen).some((option) => option !== undefined)
    ? 'no such service was seen in that time; "spantrail coverage" alone lists all'
    : 'no service was seen yet: point a Collector or SDK at OTLP port 4317 (gRPC) or 4318 (HTTP), or see "spantrail demo"';
}

function gapsOf({ services, gaps }: CoverageAnswer): CoverageGap[] {
  return [...gaps, ...services.flatMap((service) => service.gaps)].toSorted((a, b) => (a.to < b.to ? 1 : -1));
}

function servicesText(services: readonly ServiceCoverage[], paint: Paint): string {
  const withNamespace = new Set(services.map(({ namespace }) => namespace)).size > 1;
  const head = ['service', 'hours', 'spans', 'logs', 'first seen', 'last seen', 'sampling', 'missing parents', 'gaps'];
  const rows = services.map((service) => [
    service.service === '' ? '(no service.name)' : service.service,
    String(service.hours),
    String(service.spans),
    String(service.logs),
    minute(service.first_seen),
    minute(service.last_seen),
    samplingText(service.sampling),
    missingText(service.missing_parents),
    String(service.gaps.length),
    ...(withNamespace ? [service.namespace] : []),
  ]);
  const columns = [...head, ...(withNamespace ? ['namespace'] : [])];
  const widths = columns.map((name, at) => Math.max(name.length, ...rows.map((row) => (row[at] ?? '').length)));
  const line = (row: readonly string[]) =>
    row
      .map((cell, at) => printable(cell).padEnd(widths[at] ?? 0))
      .join('  ')
      .trimEnd();
  return [paint.dim(line(columns)), ...rows.map(line), ''].join('\n');
}

/** What senders state. That nothing is stated proves nothing: most samplers say nothing. */
function samplingText({ stated, sampled, unsampled, probability_min, probability_max }: ServiceCoverage['sampling']) {
  if (stated === 0) return unsampled > 0 ? 'decided against' : 'not stated';
  if (sampled === 0) return 'all kept';
  if (probability_min === undefined || probability_max === undefined || probability_min === 1) return 'some kept';
  const [lowest, highest] = [kept(probability_min), kept(probability_max)];
  return lowest === highest ? lowest : `${lowest} to ${highest}`;
}

function kept(probability: number): string {
  if (probability === 1) return 'all';
  return probability > 0.5 ? `${Math.round(probability * 1000) / 10} %` : `1 in ${Math.round(1 / probability)}`;
}

function missingText({ of, same_process, other_process }: ServiceCoverage['missing_parents']): string {
  const missing = same_process + other_process;
  return missing === 0 ? '0' : `${missing} of ${of}`;
}

function gapsText(gaps: readonly CoverageGap[], paint: Paint): string {
  const lines = gaps.map((gap) => {
    const namespace = gap.namespace === undefined || gap.namespace === 'default' ? '' : ` [${gap.namespace}]`;
    return `${paint.yellow(gap.kind.replace('_', ' '))}  ${gapTime(gap)}${namespace}\n  ${printable(gap.text)}`;
  });
  const kinds = [...new Set(gaps.map(({ kind }) => kind))];
  const advice = kinds.map((kind) => `  ${kind.replace('_', ' ')}: ${ADVICE[kind]}`);
  return [...lines, '', 'What helps (docs/coverage.md says more):', ...advice, ''].join('\n');
}

/** `2026-11-22 12:00 to 14:05Z`, `since 2026-11-22 12:00Z`. */
function gapTime({ from, to, ongoing, kind }: CoverageGap): string {
  const [start, end] = [minute(from), minute(to)];
  if (ongoing && kind === 'silence') return `since ${start}`;
  if (start === end) return start;
  return `${start.slice(0, -1)} to ${start.slice(0, 10) === end.slice(0, 10) ? end.slice(11) : end}`;
}

/** `2026-11-22 13:05Z`. */
function minute(timestamp: string): string {
  return `${timestamp.slice(0, 16).replace('T', ' ')}Z`;
}
