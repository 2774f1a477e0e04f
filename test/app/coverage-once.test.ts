import fc from 'fast-check';
import { expect, it } from 'vitest';
import { openStages, type StageLog } from '../../src/app/stages.ts';
import { settingsSchema } from '../../src/config/schema.ts';
import type { CoverageNote } from '../../src/core/coverage.ts';
import { AppError } from '../../src/core/errors.ts';
import { Counters } from '../../src/core/metrics.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import { encodeTraces, type TestSpan } from '../otlp/encode.ts';
import { MemoryDisk } from '../wal/memory-disk.ts';

const SOURCE = { transport: 'http', peer: '10.0.0.1', browser: false } as const;
const NOW_MS = Date.parse('2026-11-22T10:30:00Z');
const log: StageLog = { info: () => undefined, warn: () => undefined, error: () => undefined };
const settings = settingsSchema.parse({ wal: { reserveBytes: 0, freeBytesMin: 0 }, store: { type: 'memory' } });

async function open(disk: MemoryDisk, store: MemoryStore, notes: CoverageNote[], isDown = () => false) {
  let nowMs = NOW_MS;
  const stages = await openStages({
    ...{ settings, folder: '/data', disk, log, counters: new Counters() },
    clock: { nowMs: () => (nowMs += 1) },
    store: {
      get: (id) => store.get(id),
      write: (writes) => {
        if (isDown()) throw new AppError('store_unavailable', 'the store is down');
        return store.write(writes);
      },
    },
    coverage: { add: (more) => void notes.push(...structuredClone(more)) },
  });
  await stages.startJoining();
  return stages;
}

/** The spans of a chain of calls, each in a request of its own, so that any of them may come first or again. */
function chain(length: number): Buffer[] {
  const traceId = '4bf92f3577b34da6a3ce929d0e0e4736';
  const idOf = (number: number) => (number + 1).toString(16).padStart(16, '0');
  return Array.from({ length }, (_, number) => {
    const span: TestSpan = {
      ...{ traceId, spanId: idOf(number), name: 'work', kind: 2 },
      ...(number === 0 ? {} : { parentSpanId: idOf(number - 1) }),
      startNs: BigInt(NOW_MS - 1000 + number) * 1_000_000n,
      endNs: BigInt(NOW_MS) * 1_000_000n,
    };
    return encodeTraces([{ attributes: { 'service.name': 'shop' }, spans: [span] }]);
  });
}

const sum = (notes: readonly CoverageNote[], count: 'spans' | 'children' | 'missingRemote' | 'roots') =>
  notes.reduce((total, note) => total + note[count], 0);

it('coverage counts each span once, and what is missing at the end, in whatever order, however often and over however many runs it came', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ span: fc.nat(5), settle: fc.boolean(), restart: fc.boolean() }), { maxLength: 12 }),
      async (steps) => {
        const [disk, store, notes] = [new MemoryDisk(), new MemoryStore(), [] as CoverageNote[]];
        const requests = chain(6);
        let stages = await open(disk, store, notes);
        for (const { span, settle, restart } of steps) {
          await stages.admit('traces', Buffer.from(requests[span] as Buffer), SOURCE);
          if (settle) await stages.state.pump?.settleAll();
          if (!restart) continue;
          await stages.drain();
          await stages.close();
          stages = await open(disk, store, notes);
        }
        await stages.state.pump?.settleAll();
        await stages.drain();
        await stages.close();
        const sent = new Set(steps.map(({ span }) => span));
        const children = [...sent].filter((span) => span > 0);
        expect({
          spans: sum(notes, 'spans'),
          roots: sum(notes, 'roots'),
          children: sum(notes, 'children'),
          missing: sum(notes, 'missingRemote'),
        }).toEqual({
          spans: sent.size,
          roots: sent.has(0) ? 1 : 0,
          children: children.length,
          missing: children.filter((span) => !sent.has(span - 1)).length,
        });
      },
    ),
    { numRuns: 25 },
  );
}, 120_000);

it('what the store has not taken is not counted, and once when it has', async () => {
  const [disk, store, notes] = [new MemoryDisk(), new MemoryStore(), [] as CoverageNote[]];
  let tries = 0;
  const first = await open(disk, store, notes, () => {
    tries += 1;
    return true;
  });
  const access = { attributes: { 'http.request.method': 'GET', 'http.route': '/' } };
  const span = {
    traceId: 'a'.repeat(32),
    spanId: 'b'.repeat(16),
    kind: 2,
    name: 'GET /',
    startNs: BigInt(NOW_MS) * 1_000_000n,
    ...access,
  };
  const payload = encodeTraces([{ attributes: { 'service.name': 'shop' }, spans: [span] }]);
  await first.admit('traces', Buffer.from(payload), SOURCE);
  const settling = first.state.pump?.settleAll();
  while (tries < 2) await new Promise((resolve) => setTimeout(resolve, 10));
  expect(notes).toEqual([]);
  await first.drain();
  await settling;
  await first.close();
  expect(notes).toEqual([]);

  const second = await open(disk, store, notes);
  await second.state.pump?.settleAll();
  expect(notes).toMatchObject([{ service: 'shop', spans: 1, roots: 1 }]);
  await second.drain();
  await second.close();
});
