import { describe, expect, it } from 'vitest';
import { type Attempts, lastRevisions, writeAll } from '../../src/app/pump-writes.ts';
import { AppError } from '../../src/core/errors.ts';
import type { RecordWrite } from '../../src/core/settlement.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import { makeRecord, toWrite } from '../fixtures/records.ts';

function writesOf(...ids: string[]): RecordWrite[] {
  return ids.map((id) => toWrite(makeRecord({ event: { id } })));
}

function numbered(count: number): RecordWrite[] {
  return writesOf(...Array.from({ length: count }, (_, number) => `${number}`));
}

/** Fails with every batch that holds one of these ids, and, for as many attempts as told, with everything. */
class BrittleStore extends MemoryStore {
  readonly brittle: ReadonlySet<string>;
  /** Thrown while it is down. */
  down: { attemptsLeft: number; error: Error } | undefined;
  attempts = 0;

  constructor(...brittle: string[]) {
    super();
    this.brittle = new Set(brittle);
  }

  override async write(batch: readonly RecordWrite[]) {
    this.attempts++;
    if (this.down && this.down.attemptsLeft-- > 0) throw this.down.error;
    const bad = batch.find(({ id }) => this.brittle.has(id));
    if (bad) throw new Error(`cannot take ${bad.id}`);
    return super.write(batch);
  }

  async has(id: string): Promise<boolean> {
    return (await this.get(id)) !== undefined;
  }
}

function attemptsOn(store: BrittleStore, others: readonly RecordWrite[] = []): Attempts {
  return { write: (batch) => store.write(batch), pause: async () => undefined, others: () => others };
}

describe('a batch that keeps failing', () => {
  it.each([
    { count: 100, bad: ['37'] },
    { count: 100, bad: ['0', '1', '2', '99'] },
    { count: 3, bad: ['0', '2'] },
    { count: 2, bad: ['1'] },
  ])('sets aside $bad of $count alone, with the reason', async ({ count, bad }) => {
    const store = new BrittleStore(...bad);
    const { rejected, ...counts } = await writeAll(numbered(count), attemptsOn(store));
    expect(rejected).toEqual(bad.map((id) => ({ id, reason: `cannot take ${id}` })));
    expect(counts).toEqual({ written: count - bad.length, outranked: 0 });
    for (const { id } of numbered(count)) expect(await store.has(id), id).toBe(!bad.includes(id));
  });

  it('has a record that came alone judged beside records of other batches', async () => {
    const store = new BrittleStore('bad', 'worse');
    const others = writesOf('worse', 'good');
    const result = await writeAll(writesOf('bad'), attemptsOn(store, others));
    expect(result).toEqual({ written: 0, outranked: 0, rejected: [{ id: 'bad', reason: 'cannot take bad' }] });
  });

  it('sets nothing aside when the parts are taken though the whole is not', async () => {
    const store = new BrittleStore();
    const write = (batch: readonly RecordWrite[]) => {
      if (batch.length > 30) throw new Error('out of memory');
      return store.write(batch);
    };
    const attempts = { ...attemptsOn(store), write: async (batch: readonly RecordWrite[]) => write(batch) };
    expect(await writeAll(numbered(100), attempts)).toEqual({ written: 100, outranked: 0, rejected: [] });
  });

  it.each([
    ['says so', new AppError('store_unavailable', 'away')],
    ['does not say so', new Error('broken pipe')],
  ])('is tried until it works while the whole store is down and %s', async (_, error) => {
    const store = new BrittleStore();
    store.down = { attemptsLeft: 500, error };
    expect(await writeAll(numbered(50), attemptsOn(store))).toEqual({ written: 50, outranked: 0, rejected: [] });
    expect(store.attempts).toBeGreaterThan(500);
  });

  it.each([
    ['says so', new AppError('store_unavailable', 'away')],
    ['does not say so', new Error('broken pipe')],
  ])('loses nothing when the store goes down while a bad record is looked for, and %s', async (_, error) => {
    for (let attempt = 6; attempt < 60; attempt += 3) {
      const store = new BrittleStore('5');
      const attempts = attemptsOn(store);
      const write = (batch: readonly RecordWrite[]) => {
        if (store.attempts === attempt) store.down = { attemptsLeft: 40, error };
        return store.write(batch);
      };
      const result = await writeAll(numbered(20), { ...attempts, write });
      expect(result, `down at attempt ${attempt}`).toMatchObject({ written: 19, rejected: [{ id: '5' }] });
    }
  });

  it('is let be when the pump is stopped', async () => {
    const store = new BrittleStore('0');
    const stopped = new Error('stopped');
    let pauses = 0;
    const pause = async () => {
      if (++pauses > 7) throw stopped;
    };
    await expect(writeAll(numbered(20), { ...attemptsOn(store), pause })).rejects.toBe(stopped);
  });
});

describe('a superseded record', () => {
  const supersession = {
    id: 'old',
    by: 'new',
    namespace: 'default',
    timestampNs: 7n,
    rank: 2n,
    revision: 2,
    revisedAt: '2026-11-22T12:00:00Z',
  };

  it('is asked for where it was published, and told of when it is not there', async () => {
    const asked: unknown[] = [];
    const missing: object[] = [];
    const get = async (...request: unknown[]) => {
      asked.push(request);
      return request[0] === 'old' ? makeRecord({ event: { id: 'old' } }) : undefined;
    };
    const list = [supersession, { ...supersession, id: 'gone' }];
    const writes = await lastRevisions(list, {
      store: { get },
      log: { warn: (details) => missing.push(details) },
      failures: 0,
    });
    const hint = { namespace: 'default', timestampNs: 7n };
    expect(asked).toEqual([
      ['old', hint],
      ['gone', hint],
    ]);
    expect(writes).toMatchObject([{ id: 'old', record: { audit: { superseded_by: 'new', supersedes: 1 } } }]);
    expect(missing).toMatchObject([{ id: 'gone', by: 'new' }]);
  });

  it('are given up when the store fails with one of them however often, and waited for when it is away', async () => {
    const one = { id: 'a', by: 'b', namespace: 'default', timestampNs: 0n, rank: 2n, revision: 2, revisedAt: '' };
    const told: object[] = [];
    const log = { warn: (details: object) => told.push(details) };
    const failing = (error: Error) => ({ get: () => Promise.reject(error) });
    const broken = { store: failing(new Error('cannot read')), log };
    await expect(lastRevisions([one], { ...broken, failures: 4 })).rejects.toThrow('cannot read');
    expect(await lastRevisions([one], { ...broken, failures: 5 })).toEqual([]);
    expect(told).toMatchObject([{ id: 'a', by: 'b', error: { message: 'cannot read' } }]);
    const away = { store: failing(new AppError('store_unavailable', 'away')), log };
    await expect(lastRevisions([one], { ...away, failures: 50 })).rejects.toThrow('away');
  });
});
