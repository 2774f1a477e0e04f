import type { FastifyInstance, FastifyReply } from 'fastify';
import type { CoverageSummary } from '../core/coverage.ts';
import { AppError, describeError } from '../core/errors.ts';
import type { AuditRecord } from '../core/record.ts';
import type { Page } from '../store/port.ts';
import type { AccessControl } from './access.ts';
import { toCoverageQuestion } from './coverage.ts';
import { toSelection, toSort } from './selection.ts';
import type { ApiDependencies } from './server.ts';

const PAGE_LINES = 50;

/** A plain page without scripts: the newest sentences and a search box. The address bar is the query. */
export function addPage(
  server: FastifyInstance,
  needs: ApiDependencies,
  control: Pick<AccessControl, 'doorOf' | 'noteRows' | 'noteFailure'>,
): void {
  server.get('/', async (request, reply) => {
    const door = control.doorOf(request);
    const next = request.url.split(/\?(.*)/s)[1] ?? '';
    if (door.kind === 'stranger') {
      return answerPage(door.message === undefined ? reply : reply.code(401), renderDoor({ ...door, next }));
    }
    if (door.kind === 'forbidden') return answerPage(reply.code(403), renderDoor({ ...door, next }));
    const parameters = request.query as Record<string, string | undefined>;
    const q = String(parameters['q'] ?? '');
    const inner = parameters['inner'] === 'true';
    const cursor = parameters['cursor'];
    let page: Page = { records: [] };
    let problem: string | undefined;
    let coverage: CoverageSummary | undefined;
    try {
      const selection = toSelection({ q, inner }, needs.clock.nowMs());
      page = await needs.store.search(selection, toSort('@timestamp:desc'), PAGE_LINES, cursor);
      coverage = needs.coverage.summary(toCoverageQuestion(selection));
    } catch (error) {
      if (!(error instanceof AppError)) throw error;
      problem = describeError(error);
      control.noteFailure(request, problem);
    }
    control.noteRows(request, page.records.length);
    const { name } = door;
    const pending = (await needs.pipeline()).pending.evidence;
    return answerPage(
      reply.code(problem === undefined ? 200 : 400),
      render({ q, inner, page, problem, coverage, pending, name }),
    );
  });
}

/** Nothing but what is in it may be loaded, run, or framed by others. */
const PAGE_POLICY =
  "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

export function answerPage(reply: FastifyReply, html: string): FastifyReply {
  return reply.type('text/html; charset=utf-8').header('content-security-policy', PAGE_POLICY).send(html);
}

/** The address of the page with these of its parameters; whatever else is given is left out. */
export function pageAddress(given: Readonly<Record<string, string | undefined>>): string {
  const known = ['q', 'inner', 'cursor'].flatMap((name) => (given[name] ? [[name, given[name]] as const] : []));
  return known.length === 0 ? '/' : `/?${new URLSearchParams(Object.fromEntries(known))}`;
}

interface View {
  /** Who is looking, where that is known. */
  readonly name: string | undefined;
  readonly q: string;
  readonly inner: boolean;
  readonly page: Page;
  readonly problem: string | undefined;
  readonly coverage: CoverageSummary | undefined;
  readonly pending: number;
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (letter) => `&#${letter.charCodeAt(0)};`);
}

function link(q: string, inner: boolean, more: Record<string, string> = {}): string {
  return escapeHtml(`/?${new URLSearchParams({ q, ...(inner ? { inner: 'true' } : {}), ...more })}`);
}

function quoted(value: string): string {
  return `"${value.replace(/[\\"]/g, '\\$&')}"`;
}

function row(record: AuditRecord): string {
  const mark = record.audit.decision === 'deny' ? 'deny' : record.event.outcome === 'failure' ? 'fail' : 'pass';
  const user = record.user?.id;
  const pivots = [
    user === undefined ? '' : `<a href="${link(`user.id: ${quoted(user)}`, false)}">all of ${escapeHtml(user)}</a>`,
    `<a href="${link(`audit.target.id: ${quoted(record.audit.target.id)}`, true)}">all of this target</a>`,
    record.trace ? `<a href="${link(`trace.id: ${record.trace.id}`, true)}">whole request</a>` : '',
    `<a href="/api/v1/records/${escapeHtml(record.event.id)}">JSON</a>`,
  ];
  return `<li class="${mark}"><time>${escapeHtml(record['@timestamp'].slice(0, 23).replace('T', ' '))}</time>
<p>${escapeHtml(record.message)}</p><nav>${pivots.filter(Boolean).join(' · ')}</nav></li>`;
}

function emptyState(view: View): string {
  if (view.q !== '')
    return '<p class="empty">Nothing fits this query. A field is written <code>user.id: alice</code>.</p>';
  if (view.pending > 0)
    return '<p class="empty">Evidence is coming in; the first accesses show as their traces complete.</p>';
  return `<p class="empty">No access yet. Point an OpenTelemetry SDK or Collector at this machine:<br>
<code>OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318</code> (HTTP), or port 4317 for gRPC</p>`;
}

/** What is known to be missing from the list, or that nothing is. */
function coverageNote(coverage: CoverageSummary | undefined): string {
  if (coverage === undefined) return '';
  const gaps = coverage.gaps.map(({ from, to, text }) => {
    const time = [from, to].map((instant) => instant.slice(0, 16).replace('T', ' ')).join(' to ');
    return `<li><time>${escapeHtml(time)}</time> ${escapeHtml(text)}</li>`;
  });
  const list = gaps.length > 0 ? `<ul>${gaps.join('')}</ul>` : '';
  return `<footer><a href="/api/v1/coverage">coverage</a>: ${escapeHtml(coverage.text)}${list}</footer>`;
}

const STYLE = `
:root{color-scheme:light dark;--line:light-dark(#ddd,#333);--dim:light-dark(#595959,#a8a8a8)}
body{font:15px/1.45 system-ui,sans-serif;max-width:72rem;margin:0 auto;padding:1rem}
h1{font-size:1.1rem;margin:0 0 .7rem}form{display:flex;gap:.5rem;flex-wrap:wrap;align-items:center}
form.who{float:right;color:var(--dim);font-size:.85rem}form.who button{padding:.15rem .5rem}
input[type=search],input[type=password]{flex:1;min-width:16rem;font:inherit;padding:.45rem .6rem}button{font:inherit;padding:.45rem .9rem}
ol{list-style:none;padding:0;margin:1rem 0}li{border-left:4px solid #2e7d32;padding:.35rem .8rem;margin:.4rem 0;
border-bottom:1px solid var(--line)}li.fail{border-left-color:#e65100}li.deny{border-left-color:#c62828}
li p{margin:.1rem 0}time,nav{color:var(--dim);font-size:.85rem}.problem{border-left:4px solid #c62828;padding:.5rem .8rem}
.empty{padding:2rem 0;color:var(--dim)}footer{color:var(--dim);font-size:.85rem;margin-top:1.5rem}
footer li{border:0;padding:0}`;

function head(title: string): string {
  return `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${title}</title><style>${STYLE}</style>`;
}

function logout(name: string | undefined): string {
  return name === undefined
    ? ''
    : `<form action="/logout" method="post" class="who">${escapeHtml(name)} <button>Log out</button></form>\n`;
}

/** The page without anything of the trail in it: it asks who is there. `next` is what was asked for, to be shown afterwards. */
export function renderDoor(door: {
  readonly next: string;
  readonly name?: string | undefined;
  readonly message?: string | undefined;
}): string {
  const problem = door.message === undefined ? '' : `<p class="problem" role="alert">${escapeHtml(door.message)}</p>\n`;
  return `${head('Spantrail: who are you?')}
${logout(door.name)}<h1>Spantrail: who did what, to what, and why</h1>
${problem}<form action="/login" method="post"><input type="hidden" name="next" value="${escapeHtml(door.next)}">
<label for="token">Your token</label>
<input type="password" id="token" name="token" required autofocus autocomplete="current-password" placeholder="spantrail_…">
<button>Log in</button></form>
<p class="empty">Reading needs a token (or client certificate) that can <code>read</code>. An administrator makes one with
<code>spantrail token create NAME --can read</code>. What you look at is recorded with your name.</p></html>\n`;
}

function render(view: View): string {
  const next =
    view.page.next === undefined ? '' : `<a href="${link(view.q, view.inner, { cursor: view.page.next })}">older</a>`;
  const problem = view.problem === undefined ? '' : `<p class="problem" role="alert">${escapeHtml(view.problem)}</p>`;
  const rows = view.page.records.map(row).join('\n');
  const list = rows === '' && problem === '' ? emptyState(view) : `<ol>${rows}</ol>`;
  return `${head('Spantrail')}
${logout(view.name)}<h1>Spantrail: who did what, to what, and why</h1>
<form action="/" role="search"><input type="search" name="q" value="${escapeHtml(view.q)}" aria-label="Query"
 placeholder="user.id: alice and event.outcome: failure" autofocus>
<label><input type="checkbox" name="inner" value="true"${view.inner ? ' checked' : ''}> inner accesses too</label>
<button>Search</button></form>
<p><a href="${link('audit.decision: deny', false)}">refused</a> · <a href="${link('event.outcome: failure', false)}">failed</a>
 · <a href="${link('event.duration >= 1s', false)}">slower than 1 s</a></p>
${problem}${list}${next}${coverageNote(view.coverage)}</html>\n`;
}
