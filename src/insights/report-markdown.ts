import { cellText, isNumeric } from '../core/cell-text.ts';
import type { Report, ReportSection, Table } from '../core/insight.ts';

/** The report as Markdown with tables, as GitHub and most viewers read it. What evidence wrote is text there, never markup. */
export function reportMarkdown(report: Report): string {
  return [
    `# ${reportTitle(report)}`,
    ...intro(report).map((line) => escaped(line)),
    ...report.sections.flatMap((section, at) => sectionLines(section, at + 1)),
    '## Review',
    ...REVIEW.map((line) => `- ${line}: ______________________`),
  ]
    .join('\n\n')
    .replace(/(- [^\n]*)\n\n(?=- )/g, '$1\n')
    .concat('\n');
}

/** What a person signs: the report says what there is to see, not that somebody looked. */
export const REVIEW = ['Reviewed by', 'On', 'Findings, and who follows them up'];

export function reportTitle({ from, to, namespace }: Report): string {
  return `Access review, ${day(from)} to ${day(to)}${namespace === undefined ? '' : `, ${namespace}`}`;
}

/** What holds for the whole document. */
export function intro({ from, to }: Report): string[] {
  return [
    `Accesses from ${from} to before ${to}, times in UTC. Entries are counted, which is what somebody did; what services did for them is counted where it says so.`,
  ];
}

/** Without empty tables that would only say what a finding says already. */
export function shownTables(findings: readonly string[], tables: readonly Table[]): Table[] {
  return tables.filter(({ rows, empty }) => rows.length > 0 || !findings.includes(empty));
}

function day(time: string): string {
  return time.endsWith('T00:00:00.000000000Z') ? time.slice(0, 10) : `${time.slice(0, 16).replace('T', ' ')} UTC`;
}

function sectionLines({ title, for: purposes, findings, tables }: ReportSection, number: number): string[] {
  return [
    `## ${number}. ${title}`,
    `*For ${purposes.join(', ')}*`,
    ...findings.map((finding) => `- ${escaped(finding)}`),
    ...shownTables(findings, tables).flatMap(tableLines),
  ];
}

function tableLines({ title, columns, rows, empty, more }: Table): string[] {
  if (rows.length === 0) return [`**${title}:** ${escaped(empty)}`];
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  const text = [
    line(columns.map((column) => column.title)),
    line(columns.map((column) => (isNumeric(column) ? '---:' : '---'))),
    ...rows.map((row) => line(columns.map((column) => escaped(cellText(column, row[column.name] ?? null))))),
  ].join('\n');
  return [`**${title}**`, text, ...(more ? [`*Only the first ${rows.length} are shown.*`] : [])];
}

/** On one line, with nothing that Markdown, or HTML inside of it, would take for markup; addresses are no links. */
function escaped(text: string): string {
  return text
    .replace(/[\s\p{Cc}\p{Cf}]+/gu, ' ')
    .replace(/[\\`*_[\]<>|&~#]/g, '\\$&')
    .replace(/:\/\//g, '\\://')
    .replace(/\bwww\./gi, (www) => `${www.slice(0, 3)}\\.`);
}
