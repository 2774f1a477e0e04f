import { beforeAll, describe, expect, it } from 'vitest';
import type { Alert } from '../../src/core/alert.ts';
import { formatTimestamp, msToNs } from '../../src/core/clock.ts';
import type { CoverageAnswer, CoverageQuestion } from '../../src/core/coverage.ts';
import { buildReport, type ReportQuestion, type ReportSources } from '../../src/insights/report.ts';
import { reportHtml } from '../../src/insights/report-html.ts';
import { reportMarkdown } from '../../src/insights/report-markdown.ts';
import { EVERYTHING } from '../../src/query/ast.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import { makeRecord, toWrite } from '../fixtures/records.ts';
import { ALERTS, FROM_MS, HOSPITAL, hospital, parsed, TO_MS } from './hospital.ts';

const HOUR_MS = 3_600_000;

function question(more: Partial<ReportQuestion['selection']> = {}): ReportQuestion {
  const selection = {
    query: EVERYTHING,
    inner: false,
    fromNs: msToNs(FROM_MS),
    toNs: msToNs(TO_MS),
    namespace: HOSPITAL,
  };
  return {
    selection: { ...selection, ...more },
    sensitive: parsed('audit.target.name: *patients*'),
    changes: parsed('event.action: GRANT'),
  };
}

const GAP = {
  ...{ kind: 'silence' as const, namespace: HOSPITAL, service: 'pharmacy', ongoing: false },
  ...{ from: '2026-03-10T12:00:00Z', to: '2026-03-10T14:00:00Z', text: 'pharmacy is silent since 12:00' },
};

/** Remembers what it was asked. */
function coverage(gaps: readonly (typeof GAP)[], asked: CoverageQuestion[] = []) {
  const answer = (of: CoverageQuestion): CoverageAnswer => {
    asked.push(of);
    const text = gaps.length === 0 ? 'no gap observed' : '1 gap observed';
    return { watching: true, to: '', services: [], gaps, text };
  };
  return { answer };
}

describe('the report', () => {
  const store = new MemoryStore();
  const asked: CoverageQuestion[] = [];
  const sources: ReportSources = {
    store,
    coverage: coverage([GAP], asked),
    rules: () => 19,
    differences: async () => [],
  };

  beforeAll(async () => {
    await store.write(hospital());
    await store.alerts.write(ALERTS.map((alert) => ({ alert })));
  });

  it('is made of a century, too', async () => {
    const century = question({ fromNs: 0n, toNs: msToNs(Date.UTC(2100, 0)) });
    const report = await buildReport({ ...sources, coverage: coverage([]) }, century);
    const [[overTime] = []] = report.sections.map(({ tables }) => tables);
    expect(overTime?.rows.length).toBeGreaterThan(0);
  });

  it('has what a reviewer asks for, each part with what it answers to', async () => {
    const report = await buildReport(sources, question());
    const parts = new Map(report.sections.map((section) => [section.title, section]));
    expect([...parts.keys()]).toEqual([
      'What was recorded',
      'Who reached sensitive targets',
      'What was refused, and why',
      'What failed otherwise, and why',
      'Who changed what others may do',
      'Alerts, and what was done about them',
      'What went around the services',
      'Accesses by nobody who is known',
      'Who read this audit trail',
      'What is known to be missing',
      'Health of the collection',
    ]);
    for (const section of report.sections)
      expect(section.for.join(), section.title).toMatch(/NIST 800-53 A.*PCI DSS 10/);
    const rows = (title: string, at: number) => parts.get(title)?.tables[at]?.rows ?? [];
    const total = await store.count(question().selection);
    expect(rows('What was recorded', 0).reduce((sum, { accesses }) => sum + Number(accesses), 0)).toBe(total);
    expect(
      rows('What was recorded', 2)
        .map(({ actor }) => actor)
        .toSorted(),
    ).toEqual(['(nobody known)', 'batch', 'carl', 'dora', 'nina', 'postgres']);
    expect(rows('What was refused, and why', 0).map(({ reason }) => reason)).toContain(
      'patients:write was not granted',
    );
    expect(rows('What was refused, and why', 2)).toMatchObject([{ claimed: 'nina', accesses: 1 }]);
    expect(rows('What failed otherwise, and why', 0)).toMatchObject([{ error: 'PoolExhausted', refused: 0 }]);
    expect(rows('Who changed what others may do', 0)).toMatchObject([{ actor: 'dora', action: 'GRANT', accesses: 1 }]);
    expect(rows('What went around the services', 0)).toMatchObject([{ target: 'clinic.patients', actor: 'postgres' }]);
    expect(rows('Accesses by nobody who is known', 0)).toMatchObject([{ action: 'login', accesses: 1 }]);
    expect(rows('What is known to be missing', 0)).toMatchObject([{ kind: 'silence', service: 'pharmacy' }]);
    expect(asked).toEqual([{ fromMs: FROM_MS, toMs: TO_MS, namespace: HOSPITAL }]);
    expect(rows('Health of the collection', 0).map(({ state }) => state)).toEqual(['complete', 'out_of_band']);
  });

  it('tells of alerts of that time and of what people did about them', async () => {
    const report = await buildReport(sources, question());
    const alerts = report.sections.find(({ title }) => title.startsWith('Alerts'));
    expect(alerts?.findings).toEqual([
      '2 alerts: 1 open, 0 acknowledged, 1 closed',
      'half of those that somebody answered were answered within 12 min',
      '1 alert nobody has answered yet',
      '19 rules at work',
    ]);
    expect(alerts?.tables[0]?.rows).toMatchObject([
      { severity: 'high', rule: 'Repeated failed logins', state: 'closed' },
      { severity: 'medium', rule: 'Mass read', state: 'open' },
    ]);
    expect(alerts?.tables[1]?.rows.map(({ by, state, note }) => [by, state, note])).toEqual([
      ['sam', 'acknowledged', ''],
      ['sam', 'closed', 'nina had forgotten her password'],
    ]);
    const empty = await buildReport(sources, question({ fromNs: 0n, toNs: 1n }));
    expect(empty.sections[5]?.findings[0]).toBe('no alert was raised on accesses of that time');
    const off = await buildReport({ ...sources, rules: () => undefined }, question());
    expect(off.sections[5]?.findings.at(-1)).toMatch(/^rules are switched off: nothing watches/);
  });

  it('says what is not accounted for', async () => {
    const lossy = { ...sources, differences: async () => ['3 of all traces ever accepted are not accounted for'] };
    const { sections } = await buildReport(lossy, question());
    expect(sections.at(-1)?.findings).toEqual(['3 of all traces ever accepted are not accounted for']);
    const whole = await buildReport(sources, question());
    expect(whole.sections.at(-1)?.findings).toEqual(['everything that was ever accepted is accounted for']);
  });

  it('tells who read the trail, and takes nobody else’s word for it', async () => {
    const own = new MemoryStore();
    const read = (id: string, who: string, sender: string) =>
      toWrite(
        makeRecord({
          '@timestamp': formatTimestamp(msToNs(FROM_MS + HOUR_MS)),
          data_stream: { namespace: HOSPITAL },
          event: { id, action: 'search' },
          user: { id: who },
          service: { name: 'spantrail' },
          audit: {
            target: { type: 'audit_records', id: 'user.id: nina', service: 'spantrail' },
            evidence: [{ signal: 'logs', source: 'access', sender, id }],
          },
        }),
      );
    await own.write([
      read('a', 'auditor', 'spantrail'),
      read('b', 'auditor', 'spantrail'),
      read('c', 'mallory', 'shop'),
    ]);
    const { sections } = await buildReport({ ...sources, store: own }, question());
    const reads = sections.find(({ title }) => title === 'Who read this audit trail');
    expect(reads?.tables[0]?.rows).toMatchObject([{ actor: 'auditor', action: 'search', accesses: 2 }]);
  });

  it('is the same each time, and is one file with nothing from outside', async () => {
    const [first, second] = [await buildReport(sources, question()), await buildReport(sources, question())];
    expect(second).toEqual(first);
    const page = reportHtml(first);
    expect(page).not.toMatch(/<script|<link|<img|src=|@import|url\(/);
    expect(page.match(/href="[^"]*"/g)?.every((link) => link.startsWith('href="#s'))).toBe(true);
    expect(page).toContain(`content="default-src 'none'; style-src 'unsafe-inline'"`);
    expect(page.match(/<h2>/g)).toHaveLength(12);
    const text = reportMarkdown(first);
    expect(text).toMatch(/^# Access review, 2026-03-10 to 2026-03-12, hospital$/m);
    for (const line of text.split('\n').filter((one) => one.startsWith('| ---')))
      expect(line).toMatch(/^\| (-+:? \| )+-*:? ?\|?$/);
  });

  it('takes what evidence wrote for text, never for markup', async () => {
    const hostile = `<img src=x onerror="alert('1')">|**b** [l](https://evil.example) www.evil.example \u202e\n# h & 'q' \`c\``;
    const own = new MemoryStore();
    const at = { '@timestamp': formatTimestamp(msToNs(FROM_MS)), data_stream: { namespace: HOSPITAL } };
    await own.write([
      toWrite(
        makeRecord({
          ...at,
          user: { id: hostile },
          event: { outcome: 'failure', reason: hostile },
          audit: { decision: 'deny' },
        }),
      ),
    ]);
    const alert = { ...(ALERTS[0] as Alert), reason: hostile };
    await own.alerts.write([{ alert }]);
    const report = await buildReport({ ...sources, store: own }, question());
    const page = reportHtml(report);
    expect(page).toContain('&lt;img src=x onerror=&quot;alert(&#39;1&#39;)&quot;&gt;|**b**');
    expect(page).not.toContain('<img');
    expect(page).not.toContain('\u202e');
    const cell = reportMarkdown(report)
      .split('\n')
      .find((line) => line.startsWith('| \\<img'));
    expect(cell).toContain('\\[l\\](https\\://evil.example) www\\.evil.example \\# h \\& ');
    // One row: neither its line end nor its bar has made another cell.
    expect(cell?.replaceAll('\\|', '').split('|')).toHaveLength(8);
  });
});
