import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { PUMP_DEFAULTS, startPump } from '../../src/app/pump.ts';
import { replayInto } from '../../src/app/replay.ts';
import { createSettling } from '../../src/app/settling.ts';
import { startShardThread } from '../../src/app/shard-thread.ts';
import { Sums } from '../../src/app/sums.ts';
import { settingsSchema } from '../../src/config/schema.ts';
import { systemClock } from '../../src/core/clock.ts';
import { Counters } from '../../src/core/metrics.ts';
import { FrameSplitter } from '../../src/join/frame-split.ts';
import { JOIN_DEFAULTS } from '../../src/join/settings.ts';
import { JoinShard } from '../../src/join/shard.ts';
import { inlineShard, type ShardHandle } from '../../src/join/shard-handle.ts';
import { EVERYTHING } from '../../src/query/ast.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import { Quarantine } from '../../src/wal/quarantine.ts';
import { SettleJournal } from '../../src/wal/settle-journal.ts';
import { Wal } from '../../src/wal/wal.ts';
import { noteAt, spanIdOf, traceIdOf } from '../join/world.ts';
import { encodeLogs, encodeTraces } from '../otlp/encode.ts';

let folder = '';

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'spantrail-threads-'));
});

afterEach(() => rm(folder, { recursive: true }));

const SHARDS = 2;
const settings = settingsSchema.parse({});
/** So that late evidence makes its revision while the test waits. */
const joinSettings = { ...JOIN_DEFAULTS, idleMs: 1, graceMs: 1 };
/** The same for both runs, and within the horizon. */
const RECEIVED_MS = systemClock.nowMs();
const TRACES = 12;

interface Disk {
  readonly name: string;
  readonly wal: Wal;
  readonly journal: SettleJournal;
}

function inlineShards({ wal, journal }: Disk): ShardHandle[] {
  const shared = {
    settings: joinSettings,
    ...createSettling(settings),
    readFrame: wal.read.bind(wal),
    readJournal: journal.read.bind(journal),
    shardCount: SHARDS,
  };
  return Array.from({ length: SHARDS }, (_, shardIndex) => inlineShard(new JoinShard({ ...shared, shardIndex })));
}

function threadShards({ name }: Disk): ShardHandle[] {
  const folders = { walFolder: join(folder, name, 'wal'), journalFolder: join(folder, name, 'journal') };
  const shared = { settling: settings, join: joinSettings, ...folders, shardCount: SHARDS };
  const splitter = new FrameSplitter(SHARDS);
  return Array.from({ length: SHARDS }, (_, shardIndex) => startShardThread({ ...shared, shardIndex }, splitter));
}

/** Sends half, settles it, restarts, sends the rest of the same traces, settles; returns everything stored, and the totals. */
async function runTwice(name: string, startShards: (disk: Disk) => ShardHandle[]) {
  const store = new MemoryStore();
  const totals: number[] = [];
  for (const round of [1, 2]) {
    const wal = await Wal.open({ folder: join(folder, name, 'wal'), segmentBytes: 4096 });
    const journal = await SettleJournal.open({ folder: join(folder, name, 'journal') });
    const quarantine = await Quarantine.open(join(folder, name));
    const shards = startShards({ name, wal, journal });
    const counters = new Counters();
    const sums = new Sums(counters);
    const log = { info: () => undefined, warn: () => undefined, error: () => undefined };
    await replayInto({ shards, journal, wal, sums, clock: systemClock, log });
    wal.onDurable((frame) => {
      sums.accept(frame);
      for (const shard of shards) shard.ingest(frame, systemClock.nowMs());
    });
    const shared = { shards, store, journal, wal, quarantine, counters, sums, clock: systemClock, log };
    const pump = startPump({ ...shared, settings: PUMP_DEFAULTS });
    await sendRound(wal, round);
    await pump.settleAll();
    await pump.drain();
    const spans = await Promise.all(shards.map((shard) => shard.spansOf(traceIdOf(3))));
    totals.push(spans.flat().length, counters.total('evidence'), counters.total('quarantined'));
    for (const one of [...shards, journal, wal, quarantine]) await one.close();
  }
  const records = [];
  for await (const record of store.iterate({ query: EVERYTHING, inner: true })) records.push(record);
  return { records: records.map(({ audit, ...rest }) => ({ ...rest, audit: { ...audit, revised_at: '' } })), totals };
}

async function sendRound(wal: Wal, round: number): Promise<void> {
  const appended: Promise<unknown>[] = [];
  for (let trace = 1; trace <= TRACES; trace++) {
    const traceId = traceIdOf(trace);
    const spans = [
      { traceId, spanId: spanIdOf(round), kind: 2, name: 'GET', startNs: BigInt(trace), endNs: 9_000n },
      { traceId, spanId: spanIdOf(round + 10), parentSpanId: spanIdOf(round), kind: 1, name: 'work' },
    ].map((span) => ({ ...span, attributes: { 'http.request.method': 'GET', 'url.path': `/patients/${trace}` } }));
    const note = noteAt(RECEIVED_MS + trace);
    appended.push(wal.append({ signal: 'traces', note, payload: encodeTraces([{ spans }]) }));
    const logs = [
      { eventName: 'access', body: `${trace} ${round}`, timeNs: BigInt(trace), attributes: { 'user.id': 'a' } },
    ];
    appended.push(wal.append({ signal: 'logs', note, payload: encodeLogs([{ logs }]) }));
  }
  await Promise.all(appended);
}

describe('shards on threads', () => {
  it('store what the same shards store on the main thread, over a restart', async () => {
    const inline = await runTwice('inline', inlineShards);
    const threads = await runTwice('threads', threadShards);
    expect(threads).toEqual(inline);
    expect(inline.records.length).toBe(TRACES * 4);
    expect(inline.records.filter((record) => record.audit.revision === 2).length).toBe(TRACES * 2);
    expect(inline.totals).toEqual([2, TRACES * 3, 0, 4, TRACES * 6, 0]);
  });
});
