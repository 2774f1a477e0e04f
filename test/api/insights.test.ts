import { beforeAll, describe, expect, it } from 'vitest';
import { createApi } from '../../src/api/server.ts';
import { INSIGHTS, type Insight, type Report } from '../../src/core/insight.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import { FROM_MS, hospital } from '../insights/hospital.ts';
import { apiNeeds, IDLE } from './needs.ts';

const FROM = '2026-03-10';
const TO = '2026-03-12';

describe('insights and the report over HTTP', () => {
  const store = new MemoryStore();
  const watching = { watching: true, to: '', services: [], gaps: [], text: 'no gap observed' };
  const api = createApi(
    apiNeeds({
      ...{ store, clock: { nowMs: () => FROM_MS + 86_400_000 } },
      insights: {
        sensitive: 'audit.target.name: *patients*',
        granted: [{ role: 'nurse', permissions: ['x'], targets: [] }],
      },
      coverage: { answer: () => watching, summary: () => ({ ...watching, services: 0, gap_count: 0 }) },
      pipeline: async () => ({
        ...IDLE,
        sums: [{ of: 'records', settled: 5, stored: 3, pending: 0, quarantined: 0, difference: 2 }],
      }),
    }),
  );
  beforeAll(() => store.write(hospital()));
  const get = async (path: string) => {
    const response = await api.inject({ url: `/api/v1/${path}` });
    return { status: response.statusCode, type: response.headers['content-type'], text: response.body };
  };
  const insight = async (path: string) => JSON.parse((await get(`insights/${path}`)).text) as Insight;

  it('lists them, and answers each', async () => {
    const { insights } = JSON.parse((await get('insights')).text) as { insights: { name: string }[] };
    expect(insights.map(({ name }) => name)).toEqual(Object.keys(INSIGHTS));
    for (const { name } of insights) {
      const answer = await insight(`${name}?from=${FROM}&to=${TO}&min=1`);
      expect(answer.tables[0]?.rows.length, name).toBeGreaterThan(0);
      expect(answer).toMatchObject({
        name,
        from: '2026-03-10T00:00:00.000000000Z',
        to: '2026-03-12T00:00:00.000000000Z',
      });
    }
  });

  it('takes its parameters, and what the settings say', async () => {
    const rows = async (path: string) => (await insight(path)).tables[0]?.rows ?? [];
    expect(await rows('sensitive?limit=2')).toHaveLength(2);
    expect((await insight('sensitive?sensitive=user.id:%20nobody')).findings[0]).toBe(
      '0 accesses to sensitive targets',
    );
    expect(await rows('permissions?limit=100')).toContainEqual(
      expect.objectContaining({ thing: 'x', state: 'unused' }),
    );
    const archived = expect.objectContaining({ thing: 'patients:archive' });
    expect(await rows(`permissions?from=${FROM}&limit=100`)).toContainEqual(archived);
    expect(await rows(`permissions?from=${FROM}&limit=100&known_from=2026-03-09`)).not.toContainEqual(archived);
    expect(await rows(`slowest?from=${FROM}&min=5&q=user.id:%20nina`)).not.toContainEqual(
      expect.objectContaining({ target: 'clinic.patients' }),
    );
  });

  it.each([
    ['insights/nothing', 404, /no insight nothing; there are permissions, targets/],
    ['insights/slowest?by=luck', 400, /by: /],
    ['insights/slowest?limit=0', 400, /limit: /],
    ['insights/slowest?what=1', 400, /unknown parameter what/],
    ['insights/slowest?q=(', 400, /^q: /],
    ['insights/sensitive?sensitive=no.such:%201', 400, /^sensitive: /],
    ['insights/slowest?from=2026-03-12&to=2026-03-10', 400, /from: 2026-03-12 is after to/],
    ['report?format=pdf', 400, /format: /],
  ])('refuses %s', async (path, status, words) => {
    const answer = await get(path);
    expect(answer.status).toBe(status);
    expect((JSON.parse(answer.text) as { error: { message: string } }).error.message).toMatch(words);
  });

  it('makes the report in three forms', async () => {
    const of = (format: string) => get(`report?from=${FROM}&to=${TO}&format=${format}`);
    const report = JSON.parse((await of('json')).text) as Report;
    expect(report.sections.at(-1)?.findings).toEqual([
      '2 of all records ever accepted are not accounted for: see "spantrail doctor"',
    ]);
    expect(await of('md')).toMatchObject({ status: 200, type: 'text/markdown; charset=utf-8' });
    const page = await of('html');
    expect(page).toMatchObject({ status: 200, type: 'text/html; charset=utf-8' });
    expect(page.text).toContain('<h2>1. What was recorded</h2>');
  });
});
