import { afterEach, describe, expect, it } from 'vitest';
import { PUMP_DEFAULTS, type Pump, startPump } from '../../src/app/pump.ts';
import { Sums } from '../../src/app/sums.ts';
import { systemClock } from '../../src/core/clock.ts';
import { AppError } from '../../src/core/errors.ts';
import { Counters } from '../../src/core/metrics.ts';
import type { SettledBatch } from '../../src/join/batch.ts';
import type { JoinStats } from '../../src/join/join-stats.ts';
import type { ShardHandle } from '../../src/join/shard-handle.ts';
import { encodeEntries } from '../../src/wal/encoded-entries.ts';
import type { SegmentInfo } from '../../src/wal/segment-log.ts';
import { entryOf } from '../fixtures/journal.ts';
import { traceIdOf } from '../join/world.ts';

const STATS: JoinStats = {
  isReplaying: false,
  tracesOpen: 0,
  tracesStored: 0,
  evidencePending: 0,
  pendingBySignal: { traces: 0, logs: 0 },
  oldestPendingMs: undefined,
  indexBytes: 0,
  indexBytesMax: 1,
  ignored: new Map(),
  replayed: 0,
  unfinishedFrom: undefined,
  segments: new Map(),
  knownSinceMs: undefined,
};

/** A shard that always has one more trace, without any record. */
class EndlessShard implements ShardHandle {
  readonly segments = new Map<number, { pending: number }>();
  taken = 0;
  storedBatches = 0;

  async take(): Promise<SettledBatch | undefined> {
    this.taken++;
    const trace = { namespace: 'default', traceId: traceIdOf(this.taken), rank: 1n, revision: 1 };
    const entry = entryOf({ ...trace, through: { segment: 1, offset: 32 } });
    const traces = [{ ...trace, reason: 'idle' as const, writes: [] }];
    return {
      number: this.taken,
      traces,
      entries: encodeEntries([entry]),
      announced: [],
      superseded: [],
      quarantined: [],
      coverage: [],
    };
  }

  async stored(): Promise<void> {
    this.storedBatches++;
  }

  stats = async () => ({ ...STATS, segments: this.segments });
  nextDueAtMs = async () => 0;
  spansOf = async () => [];
  ingest = () => undefined;
  restore = () => undefined;
  replayFrom = () => undefined;
  forgetIgnored = () => undefined;
  isCurrent = async () => [];
  repeat = async () => false;
  endReplay = async () => undefined;
  flush = async () => undefined;
  dropBefore = async () => undefined;
  close = async () => undefined;
}

const pumps: Pump[] = [];

afterEach(async () => {
  for (const pump of pumps.splice(0)) await pump.drain();
});

interface Parts {
  isAway?: boolean;
  segments?: SegmentInfo[];
}

function start({ isAway = false, segments = [] }: Parts) {
  const shard = new EndlessShard();
  const messages: string[] = [];
  const note = (_: object, message: string) => messages.push(message);
  const counters = new Counters();
  const pump = startPump({
    shards: [shard],
    store: {
      get: async () => undefined,
      write: async () => ({ written: 0, outranked: 0, rejected: [] }),
    },
    journal: {
      bytes: 0,
      firstSegment: 1,
      append: async () => [],
      appendEncoded: async (parts) => {
        if (isAway) throw new AppError('unavailable', 'the disk is full');
        return parts.map(({ starts }) => [...starts].map(() => ({ segment: 1, offset: 32 })));
      },
      dropBefore: async () => undefined,
    },
    wal: {
      segments: () => segments,
      drop: async (segment) => {
        const newest = segments.at(-1)?.segment;
        if (segment === newest) throw new AppError('storage', 'the newest stays');
        segments.shift();
      },
      bytes: 0,
      sealAged: async () => undefined,
    },
    quarantine: { add: async () => undefined },
    counters,
    sums: new Sums(counters),
    clock: systemClock,
    log: { warn: note, error: note },
    settings: { ...PUMP_DEFAULTS, batchRecordsMax: 20 },
  });
  pumps.push(pump);
  return { pump, shard, messages };
}

function segment(number: number): SegmentInfo {
  return { segment: number, bytes: 1000, firstReceivedNs: 1n, lastReceivedNs: 1n, sealed: true };
}

async function until(isTrue: () => boolean): Promise<void> {
  while (!isTrue()) await new Promise((resolve) => setTimeout(resolve, 5));
}

describe('the pump', () => {
  it('writes what it has though more traces without a record are due all the time', async () => {
    const { shard } = start({});
    await until(() => shard.storedBatches > 0);
    expect(shard.taken).toBeLessThan(200);
  });

  it('keeps looking at what is pending while a write does not come through', async () => {
    const { pump, shard, messages } = start({ isAway: true, segments: [segment(1), segment(2)] });
    shard.segments.set(1, { pending: 1 });
    await until(() => messages.length > 0 && pump.status().unsettledBytes === 1000);
    shard.segments.set(2, { pending: 1 });
    await until(() => pump.status().unsettledBytes === 2000);
    expect(pump.status().storeFailure).toBe('the settle journal: the disk is full');
  });

  it('after a restart does not try to remove the newest segment, which is sealed then', async () => {
    const segments = [segment(1), segment(2)];
    const { pump, messages } = start({ segments });
    await pump.refreshStatus();
    await until(() => segments.length === 1);
    await pump.refreshStatus();
    expect(messages).toEqual([]);
  });
});
