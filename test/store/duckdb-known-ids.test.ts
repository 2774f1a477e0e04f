import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DuckDBConnection } from '@duckdb/node-api';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { DuckDbStore } from '../../src/store/duckdb/store.ts';
import { makeRecord, toWrite } from '../fixtures/records.ts';

const SLICE_NS = 2n ** 36n;
const AT_NS = 26_000_000n * SLICE_NS;

describe('which ids are known', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spantrail-duckdb-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  async function openFile(name: string): Promise<DuckDbStore> {
    const store = await DuckDbStore.open({ file: join(folder, name), memoryBytes: 500_000_000, threads: 1 });
    await store.setUp();
    return store;
  }

  const write = (id: string, timestampNs: bigint, rank = 1n) => ({
    ...toWrite(makeRecord({ event: { id } }), { rank }),
    timestampNs,
  });

  it('asks the table for none of the new ones, and for all that it may have', async () => {
    const store = await openFile('asks.duckdb');
    const asked = vi.spyOn(DuckDBConnection.prototype, 'runAndReadAll');
    const lookups = () => asked.mock.calls.filter(([sql]) => sql.includes('JOIN staging')).length;
    const batch = (from: number, rank = 1n) =>
      Array.from({ length: 1000 }, (_, number) => write(`${from + number}`, AT_NS + BigInt(number) * 1000n, rank));
    for (let part = 0; part < 3; part++) expect(await store.write(batch(part * 1000))).toMatchObject({ written: 1000 });
    expect(lookups()).toBe(0);
    expect(await store.write(batch(1000))).toMatchObject({ written: 1000, outranked: 0 });
    expect(await store.write(batch(1000, 2n))).toMatchObject({ written: 1000, outranked: 0 });
    expect(await store.write(batch(1000, 1n))).toMatchObject({ written: 0, outranked: 1000 });
    expect(lookups()).toBe(3);
    vi.restoreAllMocks();
    expect(await store.revisions('1000')).toHaveLength(2);
    await store.close();
  });

  it('finds what another run wrote up to a minute away, on both sides of where a slice ends', async () => {
    const places = [-1n, 0n, 1n, SLICE_NS - 1n, SLICE_NS / 2n];
    const first = await openFile('near.duckdb');
    await first.write(places.map((place, number) => write(`${number}`, AT_NS + place)));
    await first.close();
    for (const [run, distanceNs] of [-60_000_000_000n, 60_000_000_000n, -1n, 1n].entries()) {
      const store = await openFile('near.duckdb');
      const moved = places.map((place, number) => write(`${number}`, AT_NS + place + distanceNs, BigInt(run) + 2n));
      expect(await store.write(moved)).toMatchObject({ written: places.length, outranked: 0 });
      for (const number of places.keys()) expect(await store.revisions(`${number}`)).toHaveLength(run + 2);
      expect(await store.write(places.map((place, number) => write(`${number}`, AT_NS + place + distanceNs)))).toEqual({
        written: 0,
        outranked: places.length,
        rejected: [],
      });
      // Back to where the next run expects them.
      await store.write(
        places.map((place, number) => ({
          ...write(`${number}`, AT_NS + place, BigInt(run) + 2n),
          previousTimestampNs: AT_NS + place + distanceNs,
        })),
      );
      await store.close();
      await rm(join(folder, 'near.duckdb'));
      const again = await openFile('near.duckdb');
      for (let rank = 1n; rank <= BigInt(run) + 2n; rank++) {
        await again.write(places.map((place, number) => write(`${number}`, AT_NS + place, rank)));
      }
      await again.close();
    }
  });

  it('takes a batch whose records are hours apart, twice', async () => {
    const store = await openFile('far.duckdb');
    const batch = (rank: bigint) =>
      Array.from({ length: 300 }, (_, number) => write(`${number}`, AT_NS + BigInt(number) * 7_200_000_000_000n, rank));
    expect(await store.write(batch(1n))).toMatchObject({ written: 300 });
    expect(await store.write(batch(1n))).toMatchObject({ written: 300 });
    expect(await store.write(batch(2n))).toMatchObject({ written: 300 });
    expect(await store.revisions('299')).toHaveLength(2);
    await store.close();
  });
});
