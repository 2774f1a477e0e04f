import { cellText, isNumeric } from '../core/cell-text.ts';
import type { Report, ReportSection, Table } from '../core/insight.ts';
import { intro, REVIEW, reportTitle, shownTables } from './report-markdown.ts';

/** Nothing from outside of the file, no script: what evidence wrote could not run even where escaping had a gap. */
const POLICY = "default-src 'none'; style-src 'unsafe-inline'";

const STYLE = `
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2430; background: #fff; max-width: 72rem; margin: 2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .1rem; padding-top: .7rem; border-top: 2px solid #1f4e79; }
.for { color: #566273; font-size: .85rem; margin: 0 0 .5rem; }
ul { margin: .3rem 0 .8rem; padding-left: 1.2rem; }
nav ol { columns: 2; padding-left: 1.4rem; }
nav a { color: #1f4e79; }
figure { margin: 1rem 0; overflow-x: auto; }
figcaption { font-weight: 600; margin-bottom: .3rem; }
table { border-collapse: collapse; font-size: .88rem; min-width: 24rem; }
th, td { padding: .28rem .7rem; text-align: left; vertical-align: top; border-bottom: 1px solid #dde3ea; }
td { overflow-wrap: anywhere; min-width: 5.5rem; }
td.n { min-width: 0; }
th { background: #eef2f6; white-space: nowrap; }
td.n, th.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td.t { white-space: nowrap; font-variant-numeric: tabular-nums; }
.empty, .more { color: #566273; font-size: .88rem; margin: .2rem 0; }
.review td { min-width: 22rem; height: 2.2rem; }
@media print {
  table { font-size: 8pt; }
  th, td { padding: .2rem .4rem; }
  body { font-size: 10pt; margin: 0; max-width: none; padding: 0; }
  h2 { break-after: avoid; } tr, figcaption { break-inside: avoid; } thead { display: table-header-group; }
  figure { overflow: visible; } nav { display: none; }
}`;

/** The report as one file that needs nothing else, for a browser and for paper. */
export function reportHtml(report: Report): string {
  const title = escaped(reportTitle(report));
  const entries = report.sections.map(({ title: name }, at) => `<li><a href="#s${at + 1}">${escaped(name)}</a></li>`);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="content-security-policy" content="${POLICY}">
<meta name="viewport" content="width=device-width">
<title>${title}</title>
<style>${STYLE}
</style>
</head>
<body>
<h1>${title}</h1>
${intro(report)
  .map((line) => `<p>${escaped(line)}</p>`)
  .join('\n')}
<nav><ol>${entries.join('')}</ol></nav>
${report.sections.map((section, at) => sectionHtml(section, at + 1)).join('\n')}
<h2>Review</h2>
<figure class="review"><table><tbody>
${REVIEW.map((line) => `<tr><th scope="row">${line}</th><td></td></tr>`).join('\n')}
</tbody></table></figure>
</body>
</html>
`;
}

function sectionHtml({ title, for: purposes, findings, tables }: ReportSection, number: number): string {
  return `<section id="s${number}">
<h2>${number}. ${escaped(title)}</h2>
<p class="for">For ${purposes.map(escaped).join(', ')}</p>
<ul>
${findings.map((finding) => `<li>${escaped(finding)}</li>`).join('\n')}
</ul>
${shownTables(findings, tables).map(tableHtml).join('\n')}
</section>`;
}

function tableHtml({ title, columns, rows, empty, more }: Table): string {
  const caption = `<figcaption>${escaped(title)}</figcaption>`;
  if (rows.length === 0) return `<figure>${caption}<p class="empty">${escaped(empty)}</p></figure>`;
  const kinds = columns.map((column) =>
    isNumeric(column) ? ' class="n"' : column.type === 'time' ? ' class="t"' : '',
  );
  const head = columns.map((column, at) => `<th scope="col"${kinds[at]}>${escaped(column.title)}</th>`).join('');
  const body = rows.map((row) => {
    const cells = columns.map(
      (column, at) => `<td${kinds[at]}>${escaped(cellText(column, row[column.name] ?? null))}</td>`,
    );
    return `<tr>${cells.join('')}</tr>`;
  });
  const rest = more ? `\n<p class="more">Only the first ${rows.length} are shown.</p>` : '';
  return `<figure>${caption}<table><thead><tr>${head}</tr></thead><tbody>
${body.join('\n')}
</tbody></table>${rest}</figure>`;
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

/** Text on one line: without markup, and without marks that turn the direction of what follows. */
function escaped(text: string): string {
  return text.replace(/[\s\p{Cc}\p{Cf}]+/gu, ' ').replace(/[&<>"']/g, (letter) => ENTITIES[letter] ?? '');
}
