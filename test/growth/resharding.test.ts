/** What becomes of a trace whose parts came to two Spantrails, since the routing changed meanwhile: two real ones, one Elasticsearch. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, inject, it } from 'vitest';
import { type RunningProcess, startProcess } from '../e2e/spantrail.ts';
import { encodeTraces, type TestSpan } from '../otlp/encode.ts';

const elasticsearch = inject('elasticsearch')['9.5.0'];
const hex = (bytes: number) => randomBytes(bytes).toString('hex');
const running: RunningProcess[] = [];
const folders: string[] = [];

afterEach(async () => {
  await Promise.all(running.splice(0).map((one) => one.stop('SIGKILL')));
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

async function start(namespace: string): Promise<RunningProcess> {
  const folder = mkdtempSync(join(tmpdir(), 'spantrail-resharding-'));
  folders.push(folder);
  const url = 'url' in elasticsearch ? elasticsearch.url : '';
  const one = await startProcess(['--data-dir', folder, '--elasticsearch-url', url], {
    SPANTRAIL_NAMESPACE: namespace,
  });
  running.push(one);
  return one;
}

interface Visit {
  readonly traceId: string;
  readonly root: TestSpan;
  readonly statements: readonly TestSpan[];
}

function visit(): Visit {
  const [traceId, rootId, startNs] = [hex(16), hex(8), BigInt(Date.now()) * 1_000_000n];
  const times = { startNs, endNs: startNs + 9_000_000n };
  const http = { 'http.request.method': 'GET', 'http.route': '/charts/:id', 'user.id': 'alice' };
  const db = { 'db.system.name': 'postgresql', 'db.query.text': 'SELECT * FROM charts' };
  return {
    traceId,
    root: { traceId, spanId: rootId, name: 'GET', kind: 2, ...times, attributes: http },
    statements: Array.from({ length: 3 }, () => ({
      ...{ traceId, spanId: hex(8), parentSpanId: rootId, kind: 3, ...times, attributes: db },
    })),
  };
}

describe.skipIf('skipped' in elasticsearch)('a trace in two places', () => {
  it('has each access once, and the one who knows more tells of what both know, whoever writes last', async () => {
    const namespace = `resharding-${hex(4)}`;
    const [one, other] = await Promise.all([start(namespace), start(namespace)]);
    const give = async (to: RunningProcess, spans: readonly TestSpan[]) => {
      expect(
        await to.send('traces', encodeTraces([{ attributes: { 'service.name': 'charts' }, spans: [...spans] }])),
      ).toBe(200);
      await to.settled();
    };
    const visits = [visit(), visit()];
    for (const [at, { root, statements }] of visits.entries()) {
      // A batch that was sent again after the change brought the root to both.
      const [first, ...rest] = statements;
      const less = () => give(one, first ? [root, first] : []);
      const more = () => give(other, [root, ...rest]);
      await (at === 0 ? less().then(more) : more().then(less));
    }
    for (const { traceId, root } of visits) {
      const find = () => one.search(`trace.id: ${traceId}`);
      await expect.poll(async () => (await find()).length, { timeout: 20_000 }).toBe(4);
      const records = await find();
      expect(new Set(records.map(({ event }) => event.id)).size).toBe(4);
      expect(records.find(({ span }) => span?.id === root.spanId)?.audit.trace?.span_count).toBe(3);
      expect(records.filter(({ audit }) => audit.entry)).toHaveLength(1);
    }
    // The one that came second with less was turned down.
    const outranked = (await one.pipeline()).counters.find(({ name }) => name === 'outranked');
    expect(outranked?.value).toBe(1);
  });

  it('says where a part is without its root', async () => {
    const namespace = `resharding-${hex(4)}`;
    const [one, other] = await Promise.all([start(namespace), start(namespace)]);
    const { traceId, root, statements } = visit();
    const [first, ...late] = statements;
    for (const [to, spans] of [
      [one, first ? [root, first] : []],
      [other, late],
    ] as const) {
      expect(
        await to.send('traces', encodeTraces([{ attributes: { 'service.name': 'charts' }, spans: [...spans] }])),
      ).toBe(200);
      await to.settled();
    }
    await expect.poll(async () => (await one.search(`trace.id: ${traceId}`)).length, { timeout: 20_000 }).toBe(4);
    const states = new Map(
      (await one.search(`trace.id: ${traceId}`)).map((record) => [record.span?.id, record.audit.join.state]),
    );
    for (const { spanId } of late) expect(states.get(spanId ?? '')).not.toBe('complete');
  });
});
