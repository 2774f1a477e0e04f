import { Client } from '@elastic/elasticsearch';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { formatTimestamp, parseTimestamp } from '../../src/core/clock.ts';
import type { RecordWrite } from '../../src/core/settlement.ts';
import { openElasticsearchStore } from '../../src/store/elasticsearch/store.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import type { Store } from '../../src/store/port.ts';
import { makeRecord, toWrite } from '../fixtures/records.ts';
import { Random } from '../torture/random.ts';
import { type FaultyWay, openFaultyWay } from './elasticsearch-faults.ts';
import { SETTINGS } from './elasticsearch-records.ts';

const MORNING_NS = parseTimestamp('2026-11-22T06:00:00Z') ?? 0n;
const STEP_NS = 10_000_000_000n;

/** Enough that an index is asked about. */
const MANY = 120;

/** The first writes of these numbers, ten seconds apart. */
function numbered(namespace: string, from: number, rank = 1n, count = MANY): RecordWrite[] {
  return Array.from({ length: count }, (_, number) => {
    const record = makeRecord({
      '@timestamp': formatTimestamp(MORNING_NS + BigInt(from + number) * STEP_NS),
      data_stream: { namespace },
      event: { id: `${namespace}-${from + number}` },
      message: `rank ${rank}`,
    });
    return toWrite(record, { rank });
  });
}

/** When the adapter does not look ids up, and that nothing is lost by it. */
export function describeNewIds(urls: string[]): void {
  describe('ids that need no look-up', () => {
    let way: FaultyWay;
    let client: Client;
    beforeAll(async () => {
      way = await openFaultyWay(urls[0] ?? '');
      client = new Client({ nodes: urls });
      const store = await another();
      await store.setUp();
      await store.close();
    });
    afterAll(() => Promise.all([way.close(), client.close()]));

    const open = (url = way.url) => openElasticsearchStore({ ...SETTINGS, urls: [url] });
    const another = () => open(urls[0]);
    const make = (namespace: string) => client.indices.create({ index: `spantrail-audit-${namespace}-2026.11.22` });

    /** Look-ups of this write. */
    async function lookUps(store: Store, writes: readonly RecordWrite[]): Promise<number> {
      const asked = () => way.passed.filter((path) => path.includes('_mget')).length;
      const before = asked();
      expect(await store.write(writes)).toEqual({ written: writes.length, outranked: 0, rejected: [] });
      return asked() - before;
    }

    async function statesOf(store: Store, id: string): Promise<string[]> {
      await store.refresh();
      return (await store.revisions(id)).map(({ message }) => message);
    }

    it('are new ones of indices in which nobody else writes; what this run wrote is looked up', async () => {
      const store = await open();
      await store.write(numbered('alone', 0));
      for (let batch = 1; batch < 4; batch++) expect(await lookUps(store, numbered('alone', batch * MANY))).toBe(0);
      expect(await lookUps(store, numbered('alone', 50, 2n, 200))).toBeGreaterThan(0);
      expect(await store.write(numbered('alone', 50, 1n, 200))).toEqual({ written: 0, outranked: 200, rejected: [] });
      const announced = numbered('alone', 0, 3n).map((write) => ({ ...write, previousTimestampNs: write.timestampNs }));
      await store.write([...announced, ...numbered('alone', 900)]);
      // Earlier states that were kept, and writes that were turned down, are no reason to ask.
      expect(await lookUps(store, numbered('alone', 1_100))).toBe(0);
      expect(await statesOf(store, 'alone-60')).toEqual(['rank 1', 'rank 2', 'rank 3']);
      expect(await statesOf(store, 'alone-1100')).toEqual(['rank 1']);
      await store.close();
    });

    it('are none once somebody else wrote, until it is known again what is there', async () => {
      const [store, other] = [await open(), await another()];
      await make('shared');
      expect(await lookUps(store, numbered('shared', 0))).toBe(0);
      await other.write([...numbered('shared', MANY, 1n, 5), ...numbered('shared', 40, 2n, 1)]);
      expect(await lookUps(store, numbered('shared', MANY, 3n))).toBeGreaterThan(0);
      expect(await statesOf(store, `shared-${MANY}`)).toEqual(['rank 1', 'rank 3']);
      const later = (number: number) => numbered('shared', 500 + 200 * number);
      const asked: number[] = [];
      for (let number = 1; number < 11; number++) asked.push(await lookUps(store, later(number)));
      expect(asked[0]).toBeGreaterThan(0);
      expect(asked.slice(-2)).toEqual([0, 0]);
      // Before an hour after the newest record that was there, any id may be one of the other's.
      await store.write(numbered('shared', 40, 3n));
      expect(await statesOf(store, 'shared-40')).toEqual(['rank 1', 'rank 2', 'rank 3']);
      await Promise.all([store.close(), other.close()]);
    });

    it('are those of a later time than what earlier runs left', async () => {
      const first = await another();
      await first.write(numbered('restart', 0));
      await first.close();
      const store = await open();
      expect(await lookUps(store, numbered('restart', 0, 2n))).toBeGreaterThan(0);
      expect(await statesOf(store, 'restart-7')).toEqual(['rank 1', 'rank 2']);
      expect(await lookUps(store, numbered('restart', 200))).toBeGreaterThan(0);
      expect(await lookUps(store, numbered('restart', 1_000))).toBe(0);
      await store.close();
    });

    it('are none of an index that was made again, however many operations it has', async () => {
      const [store, other] = [await open(), await another()];
      await store.write(numbered('again', 0));
      expect(await lookUps(store, numbered('again', MANY))).toBe(0);
      await client.indices.delete({ index: 'spantrail-audit-again-2026.11.22' });
      await other.write(numbered('again', 1_000, 1n, 2 * MANY));
      expect(await lookUps(store, numbered('again', 1_000, 2n))).toBeGreaterThan(0);
      expect(await statesOf(store, 'again-1000')).toEqual(['rank 1', 'rank 2']);
      await Promise.all([store.close(), other.close()]);
    });

    it.each([
      ['the way breaks off the answer to a write', 'cut'],
      ['the answer to a write never comes', 'silence'],
    ] as const)('are none of those that may have been written already: %s', async (_, answer) => {
      const requestTimeoutMs = answer === 'silence' ? 8_000 : SETTINGS.requestTimeoutMs;
      const store = await openElasticsearchStore({ ...SETTINGS, urls: [way.url], requestTimeoutMs });
      const namespace = `lost-${answer}`;
      await store.write(numbered(namespace, 0));
      way.fault = (path) => (path.startsWith('/_bulk') ? { answer } : undefined);
      await expect(store.write(numbered(namespace, 500))).rejects.toMatchObject({ code: 'store_unavailable' });
      way.fault = undefined;
      expect(await lookUps(store, numbered(namespace, 500, 2n))).toBeGreaterThan(0);
      expect(await statesOf(store, `${namespace}-500`)).toEqual(['rank 1', 'rank 2']);
      await store.close();
    });

    it.each([
      ['we may not ask about indices', { status: 403 }],
      ['nothing is said about them', { status: 200, body: {} }],
      ['what they carried out is not on every copy yet', { status: 200, body: statsOf('early', 119, 80) }],
      ['they do not say which history they have', { status: 200, body: statsOf('early', 119, 119, {}) }],
      ['the node that has them does not answer', { status: 503 }],
    ])('are none when %s', async (_, fault) => {
      const store = await open();
      const namespace = 'early';
      await store.write(numbered(namespace, 0, 1n));
      way.fault = (path) => (path.includes('/_stats') ? fault : undefined);
      expect(await lookUps(store, numbered(namespace, 200, 1n))).toBeGreaterThan(0);
      way.fault = undefined;
      await store.close();
      await client.indices.delete({ index: 'spantrail-audit-early-2026.11.22' });
    });

    it('are none while another batch is under way, nor of its ids', async () => {
      const store = await open();
      await store.write(numbered('beside', 0));
      let answerNow = () => {};
      const isAsked = new Promise<void>((asked) => {
        way.hold = async (path) => {
          if (!path.includes('/_stats')) return;
          way.hold = undefined;
          asked();
          await new Promise<void>((resolve) => {
            answerNow = resolve;
          });
        };
      });
      const first = store.write(numbered('beside', 300, 2n));
      await isAsked;
      expect(await lookUps(store, numbered('beside', 350, 1n))).toBeGreaterThan(0);
      answerNow();
      expect(await first).toMatchObject({ written: MANY });
      expect(await statesOf(store, 'beside-360')).toEqual(['rank 1', 'rank 2']);
      expect(await lookUps(store, numbered('beside', 600))).toBe(0);
      await store.close();
    });

    it('are as well known with two writers and restarts as when all ids are looked up', async () => {
      const random = new Random(31);
      const namespace = 'random';
      const oracle = new MemoryStore();
      const stores = [await another(), await another()];
      for (let turn = 0; turn < 40; turn++) {
        const chosen = random.below(8) === 0 ? 1 : 0;
        if (random.below(12) === 0) {
          await stores[chosen]?.close();
          stores[chosen] = await another();
        }
        // Mostly new ones, as time goes on.
        const from = random.below(3) === 0 ? random.below(turn * 100 + 1) : turn * 100;
        const batch = numbered(namespace, from, BigInt(random.below(4) + 1), MANY + random.below(80));
        expect(await stores[chosen]?.write(batch), `turn ${turn}`).toEqual(await oracle.write(batch));
      }
      await stores[0]?.refresh();
      for (let id = 0; id < 4_000; id += 61) {
        const states = async (store: Store | undefined) =>
          (await store?.revisions(`${namespace}-${id}`))?.map(({ message }) => message);
        expect(await states(stores[0])).toEqual(await states(oracle));
      }
      await Promise.all([...stores, oracle].map((store) => store.close()));
    });
  });
}

function statsOf(namespace: string, newest: number, everywhere: number, commit: object = { history_uuid: 'h' }) {
  const shard = {
    routing: { primary: true },
    seq_no: { max_seq_no: newest, global_checkpoint: everywhere },
    commit: { user_data: commit },
  };
  return { indices: { [`spantrail-audit-${namespace}-2026.11.22`]: { uuid: 'u', shards: { 0: [shard] } } } };
}
