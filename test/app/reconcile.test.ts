import { describe, expect, it, vi } from 'vitest';
import type { ReconcileEvent } from '../../src/api/reconcile-contract.ts';
import { createReconcileDesk } from '../../src/app/reconcile.ts';
import { formatTimestamp, msToNs } from '../../src/core/clock.ts';
import type { RecordWrite } from '../../src/core/settlement.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import { NullStore } from '../../src/store/null.ts';
import type { Store } from '../../src/store/port.ts';
import { Quarantine } from '../../src/wal/quarantine.ts';
import type { JournalEntry, JournalPosition } from '../../src/wal/settle-journal.ts';
import { entryOf } from '../fixtures/journal.ts';
import { makeRecord, toWrite } from '../fixtures/records.ts';
import { MemoryDisk } from '../wal/memory-disk.ts';

const START_MS = Date.parse('2026-11-22T10:00:00Z');
const RECORDS_A_TRACE = 2;

interface World {
  readonly store: Store;
  readonly quarantine: Quarantine;
  readonly journal: { entry: JournalEntry; position: JournalPosition }[];
  readonly repeated: string[];
  isReplaying: boolean;
  /** Traces whose evidence is gone. */
  readonly gone: Set<string>;
  nowMs: number;
}

function writesOf(trace: number, rank = 5n): RecordWrite[] {
  return Array.from({ length: RECORDS_A_TRACE }, (_, number) =>
    toWrite(
      makeRecord({
        '@timestamp': formatTimestamp(msToNs(START_MS + trace * 1000)),
        event: { id: `${trace}/${number}` },
        trace: { id: `trace${trace}` },
      }),
      { rank },
    ),
  );
}

/** A store and a journal that agree on so many traces. */
async function agree(traces: number, store: Store = new MemoryStore()): Promise<World> {
  const quarantine = await Quarantine.open('/quarantine', { disk: new MemoryDisk() });
  const world: World = {
    store,
    quarantine,
    journal: [],
    repeated: [],
    isReplaying: false,
    gone: new Set(),
    nowMs: START_MS + 3_600_000,
  };
  for (let trace = 0; trace < traces; trace++) {
    const writes = writesOf(trace);
    await store.write(writes);
    note(world, trace, {});
  }
  return world;
}

/** The journal's newest entry of a trace. */
function note(world: World, trace: number, more: Partial<JournalEntry>): void {
  const records = writesOf(trace).map(({ id, timestampNs }) => ({ id, timestampNs, firstRevision: 1 }));
  const base = { namespace: 'default', traceId: `trace${trace}`, rank: 5n, revision: 1, records };
  const position = { segment: 1, offset: 32 + world.journal.length };
  world.journal.push({ entry: entryOf({ ...base, ...more }), position });
}

async function reconcile(world: World, restore = false, store: Store = world.store, namespace?: string) {
  const events: ReconcileEvent[] = [];
  const newest = new Map(world.journal.map(({ entry, position }) => [entry.traceId, position.offset]));
  const desk = createReconcileDesk({
    journal: {
      visit: async (visit) => {
        for (const { entry, position } of [...world.journal]) await visit(entry, position);
        return 0;
      },
    },
    wal: {
      segments: () => [
        { segment: 1, bytes: 1, firstReceivedNs: msToNs(START_MS), lastReceivedNs: msToNs(START_MS), sealed: true },
      ],
    },
    shards: [
      {
        isCurrent: async (known) => known.map(({ traceId, position }) => newest.get(traceId) === position.offset),
        repeat: async (_, traceId) => {
          world.repeated.push(traceId);
          if (world.gone.has(traceId)) return traceId === 'trace1';
          await store.write(writesOf(Number(traceId.slice('trace'.length))));
          return true;
        },
        stats: async () => ({ knownSinceMs: undefined }) as never,
      },
    ],
    store,
    quarantine: world.quarantine,
    clock: {
      // Passes on, so that patience ends.
      nowMs: () => {
        world.nowMs += 2000;
        return world.nowMs;
      },
    },
    isReplaying: () => world.isReplaying,
    wake: () => undefined,
  });
  await desk.run({ restore, namespace }, async (event) => void events.push(event));
  const summary = events.at(-1);
  const found = events.flatMap((event) => (event.type === 'difference' ? [`${event.kind} ${event.id}`] : []));
  const unrestored = events.flatMap((event) => (event.type === 'unrestored' ? [`${event.id}: ${event.reason}`] : []));
  return { summary, found: found.sort(), unrestored, desk };
}

/** A store without some records, or with earlier ones. */
async function storeOf(traces: number, change: (write: RecordWrite) => RecordWrite | undefined): Promise<MemoryStore> {
  const store = new MemoryStore();
  for (let trace = 0; trace < traces; trace++) {
    await store.write(writesOf(trace).flatMap((write) => change(write) ?? []));
  }
  return store;
}

describe('a reconciliation', () => {
  it('finds nothing where store and journal agree, however many they are', async () => {
    const { summary, found } = await reconcile(await agree(1300));
    expect(found).toEqual([]);
    expect(summary).toMatchObject({ compared: 2600, missing: 0, older: 0, unknown: 0, left: 0 });
  });

  it('names each missing, older and unknown record, and looks at the newest entry of a trace alone', async () => {
    const world = await agree(5);
    note(world, 2, { rank: 6n, revision: 2 });
    await world.store.write(writesOf(2, 6n));
    const store = await storeOf(5, (write) => {
      if (write.id === '1/0') return undefined;
      return write.id.startsWith('2/') ? { ...write, rank: 6n } : write.id === '3/1' ? { ...write, rank: 4n } : write;
    });
    await store.write(writesOf(77));
    const { summary, found } = await reconcile(world, false, store);
    expect(found).toEqual(['missing 1/0', 'older 3/1', 'unknown 77/0', 'unknown 77/1']);
    expect(summary).toMatchObject({ compared: 10, missing: 1, older: 1, unknown: 2, restored: 0, left: 4 });
    expect(world.repeated).toEqual([]);
  });

  it('restores what it can, once a trace, and says what it cannot', async () => {
    const world = await agree(6);
    world.gone.add('trace1').add('trace4');
    const store = await storeOf(6, (write) => (/^[134]/.test(write.id) ? undefined : write));
    const { summary, found, unrestored } = await reconcile(world, true, store);
    expect(found).toHaveLength(6);
    expect(world.repeated).toEqual(['trace1', 'trace3', 'trace4']);
    expect(unrestored).toEqual([
      '4/0: nothing is known of its trace any more',
      '4/1: nothing is known of its trace any more',
      '1/0: its evidence is held no longer, gives another record by now, or cannot be stored',
      '1/1: its evidence is held no longer, gives another record by now, or cannot be stored',
    ]);
    expect(summary).toMatchObject({ missing: 6, restored: 2, left: 4 });
    world.gone.clear();
    expect((await reconcile(world, true, store)).summary).toMatchObject({ missing: 4, restored: 4, left: 0 });
    expect((await reconcile(world, false, store)).summary).toMatchObject({ compared: 12, left: 0 });
  });

  it('expects no record that is in quarantine, that another stands for, or of an earlier time', async () => {
    const world = await agree(4);
    const [aside, dropped, retried] = ['0/0', '1/0', '2/0'];
    for (const id of [aside, dropped, retried]) {
      await world.quarantine.add([{ stage: 'store', reason: 'no', id, body: null }]);
    }
    const { entries } = await world.quarantine.page({ limit: 10 });
    await world.quarantine.resolve(entries[1]?.key ?? '', 'dropped', 'x');
    await world.quarantine.resolve(entries[2]?.key ?? '', 'retried', 'x');
    note(world, 3, {
      records: writesOf(3).map(({ id, timestampNs }, number) => ({
        id,
        timestampNs,
        firstRevision: 1,
        ...(number === 1 && { supersededBy: '3/0' }),
      })),
    });
    const store = await storeOf(4, (write) =>
      [aside, dropped, retried, '3/1'].includes(write.id) ? undefined : write,
    );
    await store.write(writesOf(-10));
    const { summary, found } = await reconcile(world, false, store);
    expect(found).toEqual(['missing 2/0']);
    expect(summary).toMatchObject({ missing: 1, quarantined: 2, superseded_missing: 1, unknown: 0, left: 1 });
  });

  it('looks at one namespace alone when it is named, whoever else writes to the store', async () => {
    const world = await agree(4);
    note(world, 1, { namespace: 'other' });
    const store = await storeOf(4, (write) => (write.id === '1/0' || write.id === '2/1' ? undefined : write));
    // Of another instance: no journal entry here names it.
    await store.write(writesOf(77).map((write) => ({ ...write, namespace: 'theirs' })));
    const inNamespace = async (...words: string[]) => (await reconcile(world, false, store, ...words)).found;
    expect(await inNamespace()).toEqual(['missing 1/0', 'missing 2/1', 'unknown 77/0', 'unknown 77/1']);
    expect(await inNamespace('default')).toEqual(['missing 2/1']);
    expect(await inNamespace('other')).toEqual(['missing 1/0']);
    expect(await inNamespace('theirs')).toEqual(['unknown 77/0', 'unknown 77/1']);
  });

  it('does not judge ranks of settles that lacked evidence', async () => {
    const world = await agree(1);
    note(world, 0, { rank: 9n, isLost: true });
    expect((await reconcile(world)).summary).toMatchObject({ older: 0, left: 0 });
  });

  it('does not call unknown what comes while it looks', async () => {
    const world = await agree(3);
    const { store } = world;
    const iterate = store.iterate.bind(store);
    vi.spyOn(store, 'iterate').mockImplementation(async function* (selection) {
      await store.write(writesOf(3));
      yield* iterate(selection);
      note(world, 3, {});
    });
    expect((await reconcile(world)).summary).toMatchObject({ unknown: 0, left: 0 });
  });

  it('runs once at a time, after the replay, and on a store that keeps something', async () => {
    const world = await agree(1);
    world.isReplaying = true;
    await expect(reconcile(world)).rejects.toMatchObject({ code: 'unavailable', message: /replayed/ });
    world.isReplaying = false;
    await expect(reconcile(world, false, new NullStore())).rejects.toMatchObject({ code: 'bad_request' });
    const { desk } = await reconcile(world);
    const hold = Promise.withResolvers<void>();
    const first = desk.run({ restore: false }, () => hold.promise);
    await expect(desk.run({ restore: false }, async () => undefined)).rejects.toMatchObject({ code: 'unavailable' });
    hold.resolve();
    await first;
    // One that was broken off leaves the way free.
    const broken = desk.run({ restore: false }, () => Promise.reject(new Error('gone')));
    await expect(broken).rejects.toThrow('gone');
    await desk.run({ restore: false }, async () => undefined);
  });
});
