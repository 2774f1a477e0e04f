import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { msToNs } from '../../src/core/clock.ts';
import { INSIGHTS, type InsightName } from '../../src/core/insight.ts';
import { askInsight } from '../../src/insights/insights.ts';
import type { Question } from '../../src/insights/question.ts';
import { buildReport } from '../../src/insights/report.ts';
import { EVERYTHING } from '../../src/query/ast.ts';
import { DuckDbStore } from '../../src/store/duckdb/store.ts';
import { openElasticsearchStore } from '../../src/store/elasticsearch/store.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import type { Store } from '../../src/store/port.ts';
import { recordArbitrary } from '../conformance/queries.ts';
import { toWrite } from '../fixtures/records.ts';
import { SETTINGS } from '../store/elasticsearch-records.ts';
import { ALERTS, DAY_MS, FROM_MS, HOSPITAL, hospital, parsed, TO_MS } from './hospital.ts';

const NAMES = Object.keys(INSIGHTS) as InsightName[];

function question(more: Partial<Question> = {}): Question {
  return {
    selection: { query: EVERYTHING, namespace: HOSPITAL, inner: false, fromNs: msToNs(FROM_MS), toNs: msToNs(TO_MS) },
    knownFromNs: msToNs(FROM_MS - 90 * DAY_MS),
    sensitive: parsed('audit.target.name: *patients*'),
    granted: [{ role: 'nurse', permissions: ['patients:delete', 'patients:read'], targets: [] }],
    limit: 50,
    by: 'mean',
    countMin: 1,
    ...more,
  };
}

/** The rows of one table, as lists of these of their values. */
async function rowsOf(store: Store, name: InsightName, at: number, values: readonly string[], asked = question()) {
  const insight = await askInsight(name, store, asked);
  return (insight.tables[at]?.rows ?? []).map((row) => values.map((value) => row[value]));
}

describe('insights', () => {
  const store = new MemoryStore();
  beforeAll(() => store.write(hospital()));

  it('tell what roles used, were refused and left unused', async () => {
    const rows = await rowsOf(store, 'permissions', 0, ['role', 'thing', 'state', 'known']);
    expect(rows).toEqual([
      ['(no role)', 'patients:read', 'refused', 'this time'],
      ['(no role)', 'patients:write', 'refused', 'this time'],
      ['clerk', 'patients:write', 'refused', 'this time'],
      ['clerk', 'patients:read', 'used', 'this time'],
      ['doctor', 'patients:read', 'used', 'this time'],
      ['doctor', 'patients:write', 'used', 'this time'],
      ['nurse', 'patients:archive', 'unused', 'earlier use'],
      ['nurse', 'patients:delete', 'unused', 'settings'],
      ['nurse', 'patients:read', 'used', 'this time, settings'],
      ['nurse', 'patients:write', 'used', 'this time'],
      ['researcher', 'patients:read', 'used', 'this time'],
      ['researcher', 'patients:write', 'used', 'this time'],
    ]);
    const insight = await askInsight('permissions', store, question());
    expect(insight.findings).toContain('nurse used 2 permissions, left 2 unused');
    expect(insight.findings).toContain('clerk used 1 permission, was always refused 1');
    // What was used longer ago is not known.
    const later = question({ knownFromNs: msToNs(FROM_MS - DAY_MS) });
    expect((await askInsight('permissions', store, later)).findings).toContain(
      'nurse used 2 permissions, left 1 unused',
    );
    const targets = await rowsOf(store, 'targets', 0, ['role', 'thing', 'state']);
    expect(targets).toContainEqual(['nurse', 'archive GET /old/:id', 'unused']);
    expect(targets).toContainEqual(['clerk', 'gateway PUT /patients/:id/ward', 'refused']);
    expect(targets).toContainEqual(['(no role)', 'accounts: login', 'used']);
    expect(targets).toContainEqual(['(no role)', 'SELECT clinic.patients', 'used']);
    expect(await rowsOf(store, 'targets', 1, ['role', 'count'])).toContainEqual(['clerk', 2]);
  });

  it('tell who reached what is sensitive, and say when nothing is called so', async () => {
    const actors = await rowsOf(store, 'sensitive', 0, ['actor', 'refused']);
    expect(actors.map(([actor]) => actor).toSorted()).toEqual(['batch', 'carl', 'dora', 'nina', 'postgres']);
    expect(actors).toContainEqual(['nina', 0]);
    const insight = await askInsight('sensitive', store, question({ sensitive: undefined }));
    expect(insight.findings[0]).toMatch(/^nothing is called sensitive: say/);
    expect(insight.tables.map(({ rows }) => rows.length)).toEqual([0, 0]);
  });

  it('compare checks with database latency, or say why not', async () => {
    const morning = { fromNs: msToNs(FROM_MS + 8 * 3_600_000), toNs: msToNs(FROM_MS + 10 * 3_600_000) };
    const asked = question({ selection: { ...question().selection, ...morning } });
    const { findings, tables } = await askInsight('checks', store, asked);
    expect(findings[0]).toMatch(
      /^when there are more checks, statements are strongly slower: r = [01]\.\d\d .* a minute/,
    );
    expect(tables[0]?.rows).toHaveLength(50);
    expect(tables[0]?.more).toBe(true);
    const all = await rowsOf(store, 'checks', 0, ['checks'], { ...asked, limit: 1000 });
    const checked = await store.count({ ...asked.selection, query: parsed('audit.checks.granted: *') });
    // Those of statements stand in their requests' records, too, and are not counted again.
    expect(all.reduce((sum, [checks]) => sum + Number(checks), 0)).toBe(checked);
    const short = { ...morning, toNs: msToNs(FROM_MS + 8 * 3_600_000 + 5 * 60_000) };
    const few = await askInsight('checks', store, question({ selection: { ...asked.selection, ...short } }));
    expect(few.findings[0]).toMatch(/^too few to compare: 5 steps of a minute/);
    const none = await askInsight(
      'checks',
      store,
      question({ selection: { ...asked.selection, query: parsed('user.id: x') } }),
    );
    expect(none.findings[0]).toMatch(/^no authorisation check/);
    expect(none.tables[0]?.rows).toEqual([]);
  });

  it('name the slowest statements and targets, with who is behind them', async () => {
    const statements = await rowsOf(store, 'statements', 0, ['number', 'statement', 'runs']);
    expect(statements[0]).toEqual([1, 'SELECT * FROM patients', 1]);
    expect(statements).toHaveLength(3);
    const behind = await rowsOf(store, 'statements', 1, ['number', 'actor', 'action', 'target']);
    expect(behind[0]).toEqual([1, 'postgres', '(the statement itself)', '']);
    expect(behind.filter(([number]) => number === 2)).toHaveLength(5);
    const targets = await rowsOf(store, 'slowest', 0, ['target', 'p95', 'slowest']);
    expect(targets.map(([target]) => target)).toEqual(
      ['clinic.patients', 'gateway PUT /patients/:id/ward', 'accounts: login', 'gateway GET /patients/:id'].toSorted(
        (a, b) => targets.findIndex(([t]) => t === a) - targets.findIndex(([t]) => t === b),
      ),
    );
    const read = targets.find(([target]) => target === 'gateway GET /patients/:id');
    expect(read?.[1]).toBe(50_000_000 > Number(read?.[2]) ? read?.[2] : 50_000_000);
    const often = question({ countMin: 5 });
    expect(await rowsOf(store, 'slowest', 0, ['target'], often)).not.toContainEqual(['clinic.patients']);
    const waiting = await rowsOf(store, 'slowest', 1, ['target', 'actor', 'share'], often);
    const shares = waiting
      .filter(([target]) => target === 'gateway GET /patients/:id')
      .map(([, , share]) => Number(share));
    expect(shares.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1);
    expect(shares).toEqual(shares.toSorted((a, b) => b - a));
  });

  it('set failures beside pressure', async () => {
    const rows = await rowsOf(store, 'pressure', 0, ['state', 'share']);
    expect(rows.map(([state]) => state)).toEqual(['exhausted', 'high', 'normal', '(not measured)']);
    const { findings } = await askInsight('pressure', store, question());
    expect(findings).toEqual([expect.stringMatching(/^\d+ % of accesses failed under pressure, .* times as many$/)]);
    const nobody = question({ selection: { ...question().selection, query: parsed('user.id: postgres') } });
    expect((await askInsight('pressure', store, nobody)).findings[0]).toMatch(/nothing can be compared/);
  });
});

describe('the same answers', () => {
  const folders: string[] = [];
  const stores = new Map<string, Store>();
  const memory = new MemoryStore();
  const server = inject('elasticsearch')['9.5.0'];

  /** Odd records too: without most fields, with values of several kinds. */
  const odd = fc
    .sample(recordArbitrary, { numRuns: 150, seed: 11 })
    .map((record) => toWrite({ ...record, data_stream: { namespace: 'odd' } }));

  beforeAll(async () => {
    const folder = await mkdtemp(join(tmpdir(), 'spantrail-insights-'));
    folders.push(folder);
    stores.set(
      'duckdb',
      await DuckDbStore.open({ file: join(folder, 'records.duckdb'), memoryBytes: 500_000_000, threads: 2 }),
    );
    if ('url' in server) stores.set('elasticsearch', await openElasticsearchStore({ ...SETTINGS, urls: [server.url] }));
    for (const store of [memory, ...stores.values()]) {
      await store.setUp();
      await store.write(hospital());
      await store.write(odd);
      await store.alerts.write(ALERTS.map((alert) => ({ alert })));
      await store.refresh();
    }
  });
  afterAll(async () => {
    for (const store of stores.values()) await store.close();
    for (const folder of folders) await rm(folder, { recursive: true });
  });

  const { selection } = question();
  const always = { fromNs: 0n, toNs: msToNs(Date.UTC(2100, 0)) };
  const QUESTIONS: readonly [string, Question][] = [
    ['the two days', question({ limit: 3 })],
    ['inner accesses, by sum', question({ selection: { ...selection, inner: true }, by: 'sum', countMin: 5 })],
    [
      'odd records, by the slowest',
      question({
        ...{ selection: { ...selection, ...always, namespace: 'odd', inner: true }, knownFromNs: 0n },
        ...{ sensitive: parsed('user.roles: *'), by: 'max', limit: 4 },
      }),
    ],
    ['nothing', question({ selection: { ...selection, query: parsed('user.id: "no such"') } })],
  ];

  const nothingMissing = { answer: () => ({ watching: true, to: '', services: [], gaps: [], text: '' }) };
  const reportOf = (store: Store) =>
    buildReport(
      { store, coverage: nothingMissing, rules: () => 0, differences: async () => [] },
      { ...question(), changes: parsed('event.action: GRANT') },
    );

  describe.each(['duckdb', 'elasticsearch'])('on %s as in memory', (kind) => {
    it.skipIf(kind === 'elasticsearch' && 'skipped' in server)('the report', async () => {
      const store = stores.get(kind);
      if (!store) throw new Error(kind);
      expect(await reportOf(store)).toEqual(await reportOf(memory));
    });

    it.skipIf(kind === 'elasticsearch' && 'skipped' in server).each(NAMES)('%s', async (name) => {
      const store = stores.get(kind);
      if (!store) throw new Error(kind);
      for (const [title, asked] of QUESTIONS) {
        expect(await askInsight(name, store, asked), title).toEqual(await askInsight(name, memory, asked));
      }
    });
  });
});
