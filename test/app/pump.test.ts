import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { PUMP_DEFAULTS, type PumpSettings, startPump } from '../../src/app/pump.ts';
import { replayInto } from '../../src/app/replay.ts';
import { Sums } from '../../src/app/sums.ts';
import { systemClock } from '../../src/core/clock.ts';
import { AppError } from '../../src/core/errors.ts';
import { Counters } from '../../src/core/metrics.ts';
import type { RecordWrite } from '../../src/core/settlement.ts';
import { JOIN_DEFAULTS, type JoinSettings } from '../../src/join/settings.ts';
import { JoinShard } from '../../src/join/shard.ts';
import { inlineShard } from '../../src/join/shard-handle.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import type { WriteResult } from '../../src/store/port.ts';
import { Quarantine } from '../../src/wal/quarantine.ts';
import { SettleJournal } from '../../src/wal/settle-journal.ts';
import { Wal } from '../../src/wal/wal.ts';
import { noteAt, spanIdOf, testSettling, traceIdOf } from '../join/world.ts';
import { encodeLogs, encodeTraces } from '../otlp/encode.ts';

let folder = '';
const opened: { close(): Promise<void> }[] = [];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'spantrail-pump-'));
});

afterEach(async () => {
  for (const one of opened.splice(0).reverse()) await one.close();
  await rm(folder, { recursive: true });
});

/** Fails as told before it takes anything, refuses the ids told, and fails with every batch that holds a brittle one. */
class FaultyStore extends MemoryStore {
  failuresLeft = 0;
  readonly refused = new Set<string>();
  readonly brittle = new Set<string>();
  readonly writes: string[] = [];
  looked: (write: RecordWrite) => void = () => undefined;

  override async write(batch: readonly RecordWrite[]): Promise<WriteResult> {
    for (const write of batch) this.looked(write);
    if (this.failuresLeft > 0) {
      this.failuresLeft--;
      // Half of it arrives before the connection breaks.
      await super.write(batch.slice(0, Math.ceil(batch.length / 2)));
      throw new AppError('store_unavailable', 'the store is away');
    }
    const brittle = batch.find((write) => this.brittle.has(write.id));
    if (brittle) throw new Error(`cannot take ${brittle.id}`);
    this.writes.push(...batch.map((write) => write.id));
    const taken = batch.filter((write) => !this.refused.has(write.id));
    const result = await super.write(taken);
    const rejected = batch.filter((write) => this.refused.has(write.id)).map(({ id }) => ({ id, reason: 'no' }));
    return { ...result, rejected };
  }
}

interface RunOptions {
  store?: FaultyStore;
  join?: Partial<JoinSettings>;
  pump?: Partial<PumpSettings>;
  segmentBytes?: number;
  takesTexts?: boolean;
}

/** The log, journal, quarantine, two shards and the pump, on files. */
async function run({
  store = new FaultyStore(),
  join: joinSettings = {},
  pump = {},
  segmentBytes = 1024,
  takesTexts = false,
}: RunOptions = {}) {
  const wal = await Wal.open({ folder: join(folder, 'wal'), segmentBytes });
  const journal = await SettleJournal.open({ folder: join(folder, 'journal') });
  const quarantine = await Quarantine.open(folder);
  opened.push(wal, journal, quarantine);
  const shared = {
    settings: { ...JOIN_DEFAULTS, graceMs: 20, ...joinSettings },
    ...testSettling,
    readFrame: wal.read.bind(wal),
    readJournal: journal.read.bind(journal),
    shardCount: 2,
  };
  const shards = [0, 1].map((shardIndex) => inlineShard(new JoinShard({ ...shared, shardIndex })));
  const counters = new Counters();
  const messages: string[] = [];
  const log = {
    info: () => undefined,
    warn: (_: object, message: string) => messages.push(message),
    error: (_: object, message: string) => messages.push(message),
  };
  const settings = { ...PUMP_DEFAULTS, retryFirstMs: 1, retryMaxMs: 4, ...pump };
  const sums = new Sums(counters);
  wal.onDurable((frame) => {
    sums.accept(frame);
    for (const shard of shards) shard.ingest(frame, systemClock.nowMs());
    running.wake();
  });
  const parts = { shards, journal, wal, sums, clock: systemClock, log };
  const replayed = await replayInto(parts);
  const running = startPump({ ...parts, store, takesTexts, quarantine, counters, settings });
  const send = (from: number, to: number, name = 'request') => sendTraces(wal, from, to, name);
  return { wal, journal, store, counters, pump: running, messages, replayed, shards, send };
}

async function sendTraces(wal: Wal, from: number, to: number, name: string): Promise<void> {
  for (let trace = from; trace < to; trace++) {
    const ids = { traceId: traceIdOf(trace), spanId: spanIdOf(1) };
    const payload = encodeTraces([{ spans: [{ ...ids, name, kind: 2 }] }]);
    await wal.append({ signal: 'traces', note: noteAt(systemClock.nowMs()), payload });
  }
}

function ids(from: number, to: number): string[] {
  return Array.from({ length: to - from }, (_, index) => `${traceIdOf(from + index)}/${spanIdOf(1)}`);
}

async function until(isTrue: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await isTrue())) await new Promise((resolve) => setTimeout(resolve, 5));
}

describe('the pump', () => {
  it('stores by itself what is due, and says what is pending', async () => {
    const { store, pump, counters, send } = await run();
    await send(0, 20);
    await until(() => store.writes.length === 20);
    await until(async () => (await pump.refreshStatus()).evidencePending === 0);
    expect(store.writes.sort()).toEqual(ids(0, 20));
    expect(pump.status()).toMatchObject({ tracesOpen: 0, unsettledBytes: 0, storeFailure: undefined });
    expect(counters.total('settled', { reason: 'complete' })).toBe(20);
    expect(counters.total('evidence', { signal: 'traces', use: 'used' })).toBe(20);
    expect(counters.total('written')).toBe(20);
    await pump.drain();
  });

  it('tries again while the store fails; nothing is lost, nothing is there twice', async () => {
    const store = new FaultyStore();
    store.failuresLeft = 7;
    const { pump, counters, send, messages } = await run({ store, pump: { batchRecordsMax: 4 } });
    await send(0, 50);
    await pump.settleAll();
    expect([...new Set(store.writes)].sort()).toEqual(ids(0, 50));
    expect(store.writes.length).toBe(50);
    expect(counters.total('write_retries')).toBe(7);
    expect(messages.length).toBe(7);
    await pump.drain();
  });

  it('gives a store that takes texts the same records, each as its text, over the same memory again and again', async () => {
    const stored = async (takesTexts: boolean) => {
      const store = new FaultyStore();
      let texts = 0;
      store.looked = (write) => {
        const text = write.json?.().toString();
        if (text === undefined) return;
        texts++;
        expect(text).toBe(JSON.stringify(write.record));
      };
      const { pump, send } = await run({ store, takesTexts, pump: { batchRecordsMax: 4 } });
      for (let round = 0; round < 3; round++) {
        store.failuresLeft = 2;
        await send(round * 20, round * 20 + 20, `größe ☃ ${round}`);
        await pump.settleAll();
      }
      // A revision.
      await send(0, 1, 'again');
      await pump.settleAll();
      await pump.drain();
      for (const one of opened.splice(0).reverse()) await one.close();
      await rm(folder, { recursive: true });
      await mkdir(folder);
      const records = await Promise.all(ids(0, 60).map((id) => store.get(id)));
      return { texts, records: records.map((record) => ({ ...record, audit: { ...record?.audit, revised_at: '' } })) };
    };
    const [asObjects, asTexts] = [await stored(false), await stored(true)];
    expect(asTexts.records).toEqual(asObjects.records);
    expect(asObjects.texts).toBe(0);
    // With what was tried again.
    expect(asTexts.texts).toBeGreaterThanOrEqual(60);
  });

  it.each([false, true])(
    'sets aside what the store refuses, and stores its neighbours; texts: %s',
    async (takesTexts) => {
      const store = new FaultyStore();
      const [refused = ''] = ids(3, 4);
      store.refused.add(refused);
      const { pump, counters, send } = await run({ store, takesTexts });
      await send(0, 10);
      await sendTraces((await Promise.resolve(opened[0])) as Wal, 10, 11, 'poison');
      await pump.settleAll();
      await pump.drain();
      expect(await store.get(refused)).toBeUndefined();
      expect(counters.total('written')).toBe(9);
      expect(counters.total('quarantined', { stage: 'store' })).toBe(1);
      expect(counters.total('quarantined', { stage: 'settle' })).toBe(1);
      const text = await readFile(join(folder, 'quarantine.ndjson'), 'utf8');
      const lines = text
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line));
      expect(lines.flatMap(({ stage }) => stage ?? []).sort()).toEqual(['settle', 'store']);
      expect(lines.find(({ stage }) => stage === 'store')).toMatchObject({
        id: refused,
        reason: 'no',
        body: {
          id: refused,
          rank: expect.stringMatching(/^\d+$/),
          timestampNs: '0',
          record: { message: expect.any(String) },
        },
      });
    },
  );

  it('sets aside a record that the store always fails with, also when it comes first and alone', async () => {
    const store = new FaultyStore();
    const [alone = '', among = ''] = ids(0, 2);
    store.brittle.add(alone).add(among);
    const first = await run({ store });
    await first.send(0, 1);
    await until(() => first.counters.total('write_retries') > 8);
    expect(first.counters.total('quarantined')).toBe(0);
    await first.send(1, 20);
    await first.pump.settleAll();
    expect(first.counters.total('written')).toBe(18);
    expect(first.counters.total('quarantined', { stage: 'store' })).toBe(2);
    expect(first.pump.status().storeFailure).toBeUndefined();
    await first.pump.drain();
    expect(new Set(store.writes)).toEqual(new Set(ids(2, 20)));
    const text = await readFile(join(folder, 'quarantine.ndjson'), 'utf8');
    for (const id of [alone, among])
      expect(text).toContain(`"stage":"store","reason":"cannot take ${id}","id":"${id}"`);
    for (const one of opened.splice(0).reverse()) await one.close();

    const second = await run({ store });
    expect((await second.pump.refreshStatus()).replayed).toBe(0);
    await second.pump.drain();
  });

  it('is not held up by bad records that come first, one after the other', async () => {
    const store = new FaultyStore();
    for (const id of ids(0, 5)) store.brittle.add(id);
    const { pump, counters, send } = await run({ store });
    for (let bad = 0; bad < 5; bad++) {
      await send(bad, bad + 1);
      const retries = counters.total('write_retries');
      await until(() => counters.total('write_retries') > retries + 6);
    }
    expect(counters.total('quarantined')).toBe(0);
    await send(5, 6);
    await until(() => store.writes.includes(ids(5, 6)[0] ?? ''));
    await until(() => counters.total('quarantined', { stage: 'store' }) === 5);
    const { sums } = await pump.refreshStatus();
    expect(sums.find((sum) => sum.of === 'records')).toMatchObject({
      settled: 6,
      stored: 1,
      quarantined: 5,
      difference: 0,
    });
    await pump.drain();
  });

  it('after a stop with the store away, the next start stores the rest and only the rest', async () => {
    const store = new FaultyStore();
    const first = await run({ store });
    await first.send(0, 10);
    await first.pump.settleAll();
    store.failuresLeft = Number.POSITIVE_INFINITY;
    await first.send(10, 20);
    await until(() => first.counters.total('write_retries') > 2);
    expect(first.pump.status().storeFailure ?? 'the store is away').toBe('the store is away');
    await first.pump.drain();
    for (const one of opened.splice(0).reverse()) await one.close();

    store.failuresLeft = 0;
    store.writes.length = 0;
    const second = await run({ store });
    expect(second.replayed).toMatchObject({ entries: 10 });
    expect(second.replayed.frames).toBeLessThan(20);
    expect((await second.pump.refreshStatus()).replayed).toBe(10);
    await second.pump.settleAll();
    await second.pump.drain();
    expect(store.writes.sort()).toEqual(ids(10, 20));
  });

  it('a published id that its trace takes back is hidden by a last revision', async () => {
    const { wal, store, pump, counters } = await run({ join: { idleMs: 1 } });
    const event = async (access: number) => {
      const log = { traceId: traceIdOf(1), spanId: spanIdOf(1), attributes: { access } };
      await wal.append({ signal: 'logs', note: noteAt(systemClock.nowMs()), payload: encodeLogs([{ logs: [log] }]) });
      await pump.settleAll();
    };
    await event(1);
    const [id = ''] = ids(1, 2);
    expect((await store.get(id))?.audit.superseded_by).toBeUndefined();
    await event(2);
    const hidden = await store.get(id);
    const standing = await store.get(hidden?.audit.superseded_by ?? '');
    expect(hidden?.audit).toMatchObject({ revision: 2, supersedes: 1 });
    expect(standing?.audit).toMatchObject({ revision: 2, join: { reason: 'late', late: true } });
    expect(standing?.audit).not.toHaveProperty('supersedes');
    expect(counters.total('revisions')).toBe(1);
    await pump.drain();
  });

  it('lets go of stored segments beyond the horizon, and of no other', async () => {
    const kept = await run();
    await kept.send(0, 40);
    await kept.pump.settleAll();
    await kept.pump.refreshStatus();
    const segments = kept.wal.segments().length;
    expect(segments).toBeGreaterThan(3);
    await kept.pump.drain();
    for (const one of opened.splice(0).reverse()) await one.close();

    const store = new FaultyStore();
    store.failuresLeft = Number.POSITIVE_INFINITY;
    const bounded = await run({ store, pump: { horizonBytesMax: 0 } });
    await bounded.send(40, 60);
    await until(
      async () => (await bounded.pump.refreshStatus()).walBytes > 0 && bounded.wal.segments().length < segments,
    );
    expect((await bounded.pump.refreshStatus()).evidencePending).toBe(20);
    store.failuresLeft = 0;
    await bounded.pump.settleAll();
    await until(async () => {
      await bounded.pump.refreshStatus();
      return bounded.wal.segments().length <= 1;
    });
    expect(new Set(store.writes)).toEqual(new Set(ids(40, 60)));
    await bounded.pump.drain();
  });
});
