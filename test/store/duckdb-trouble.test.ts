import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdtemp, open as openFile, readFile, rm, truncate, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AppError } from '../../src/core/errors.ts';
import type { RecordWrite } from '../../src/core/settlement.ts';
import { EVERYTHING } from '../../src/query/ast.ts';
import { DuckDbStore } from '../../src/store/duckdb/store.ts';
import { makeRecord, toWrite } from '../fixtures/records.ts';
import { mountSmallDisk, type SmallDisk } from '../setup/small-disk.ts';

const LIMITS = { memoryBytes: 500_000_000, threads: 2 };
const ALL = { query: EVERYTHING, inner: true };
const MEBIBYTE = 1024 * 1024;

describe('a disk without a byte left', () => {
  let disk: SmallDisk;
  beforeAll(async () => {
    disk = await mountSmallDisk(24);
  });
  afterAll(() => disk.remove());

  /** Starts the writer, fills the disk, and waits until it was refused some times. Room is made by `makeRoom`. */
  async function fill(file: string, checkpointBytes: number) {
    const ballast = join(disk.outside, 'ballast');
    await writeFile(ballast, Buffer.alloc(16 * MEBIBYTE));
    const program = [process.execPath, join(import.meta.dirname, 'full-disk-writer.ts')];
    const [command = '', ...words] = [...disk.enter, ...program, join(disk.inside, file), String(checkpointBytes)];
    const child = spawn(command, words, { stdio: ['ignore', 'pipe', 'inherit'] });
    const exited = once(child, 'exit');
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const refusals: string[] = [];
    let acknowledged = 0;
    const readUntil = async (isEnough: () => boolean) => {
      while (!isEnough()) {
        const { value = '', done } = await lines.next();
        if (done) throw new Error(`the writer ended; refused: ${refusals.join('; ')}`);
        if (value.startsWith('acknowledged')) acknowledged = Number(value.split(' ')[1]);
        else refusals.push(value);
      }
    };
    await readUntil(() => refusals.length >= 5);
    return {
      refusals,
      acknowledged: () => acknowledged,
      makeRoom: () => unlink(ballast),
      /** More batches are taken now. */
      recover: () => {
        const before = acknowledged;
        return readUntil(() => acknowledged >= before + 300);
      },
      kill: async () => {
        child.kill('SIGKILL');
        await exited;
      },
    };
  }

  it.each([
    { at: 'a commit', checkpointBytes: 64 * MEBIBYTE, reason: /No space left/ },
    {
      at: 'a checkpoint, after which DuckDB refuses everything',
      checkpointBytes: 5 * MEBIBYTE,
      reason: /FATAL.*No space/,
    },
  ])('is waited for at $at; when there is room again, it goes on by itself', async ({ checkpointBytes, reason }) => {
    const file = `recovers-${checkpointBytes}.duckdb`;
    const writer = await fill(file, checkpointBytes);
    for (const refusal of writer.refusals) expect(refusal).toMatch(/^refused store_unavailable /);
    expect(writer.refusals.join('\n')).toMatch(reason);
    await writer.makeRoom();
    await writer.recover();
    await writer.kill();
    await expectExactly(file, writer.acknowledged());
  });

  it.each([64 * MEBIBYTE, 5 * MEBIBYTE])(
    'costs nothing acknowledged when the process is killed there (log of %i bytes)',
    async (checkpointBytes) => {
      const file = `killed-${checkpointBytes}.duckdb`;
      const writer = await fill(file, checkpointBytes);
      await writer.kill();
      await writer.makeRoom();
      await expectExactly(file, writer.acknowledged());
    },
  );

  /** Everything acknowledged is there once; of what was under way, a whole batch or nothing. */
  async function expectExactly(name: string, acknowledged: number): Promise<void> {
    const file = join(disk.outside, name);
    const store = await DuckDbStore.open({ file, ...LIMITS });
    await store.setUp();
    const requests = Array.from({ length: acknowledged }, (_, number) => {
      const { id, namespace, timestampNs } = toWrite(makeRecord({ event: { id: `${number}` } }));
      return { id, namespace, timestampNs };
    });
    expect(acknowledged).toBeGreaterThan(0);
    expect(await store.ranks(requests)).toEqual(requests.map(() => 1n));
    expect([acknowledged, acknowledged + 100]).toContain(await store.count(ALL));
    await store.close();
    await Promise.all([rm(file), rm(`${file}.wal`, { force: true })]);
  }
});

describe('a file that is not as it was', () => {
  let folder: string;
  let good: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spantrail-duckdb-'));
    good = join(folder, 'good.duckdb');
    const store = await DuckDbStore.open({ file: good, ...LIMITS });
    await store.setUp();
    const writes = Array.from({ length: 5000 }, (_, number) =>
      toWrite(makeRecord({ event: { id: `${number}` }, message: `${number} ${'alice '.repeat(20)}` })),
    );
    await store.write(writes);
    await store.close();
  });
  afterAll(() => rm(folder, { recursive: true }));

  async function copy(name: string): Promise<string> {
    const file = join(folder, `${name}.duckdb`);
    await copyFile(good, file);
    return file;
  }

  async function overwrite(file: string, at: number, bytes: Buffer): Promise<void> {
    const handle = await openFile(file, 'r+');
    await handle.write(bytes, 0, bytes.length, at);
    await handle.close();
  }

  /** Opens it, sets it up, and reads all of it; the first failure. */
  async function failureOf(file: string): Promise<Error & { code?: string }> {
    try {
      const store = await DuckDbStore.open({ file, ...LIMITS });
      try {
        await store.setUp();
        for await (const _ of store.iterate(ALL));
      } finally {
        await store.close();
      }
    } catch (error) {
      return error as Error;
    }
    throw new Error('it opened, and all of it could be read');
  }

  const STEPS = /the file is damaged \(.*\); stop Spantrail, put a backup in place of .*reconcile --restore/;

  it.each([
    { name: 'its first header', damage: (file: string) => overwrite(file, 40, Buffer.from('x')) },
    { name: 'its second header', damage: (file: string) => overwrite(file, 4096 + 40, Buffer.alloc(8, 1)) },
    { name: 'its end', damage: async (file: string) => truncate(file, (await readFile(file)).length / 2) },
    {
      name: 'all of its data',
      damage: async (file: string) => {
        const { length } = await readFile(file);
        for (let at = 20_000; at < length; at += 50_000) await overwrite(file, at, Buffer.alloc(64, 7));
      },
    },
  ])('says that it is damaged and what to do: $name', async ({ name, damage }) => {
    const file = await copy(name);
    await damage(file);
    const failure = await failureOf(file);
    expect(failure.message).toMatch(STEPS);
    expect(['storage', 'store_unavailable']).toContain(failure.code);
  });

  it('says that a newer DuckDB wrote it', async () => {
    const file = await copy('newer');
    const header = (await readFile(file)).subarray(0, 4096);
    header.writeBigUInt64LE(9999n, 12);
    header.writeBigUInt64LE(checksumOf(header.subarray(8)), 0);
    await overwrite(file, 0, header);
    expect(await failureOf(file)).toMatchObject({
      code: 'storage',
      message: expect.stringMatching(/a newer DuckDB wrote it; start the Spantrail that did/),
    });
  });

  /** DuckDB's checksum of a block (its common/checksum.cpp): words of 64 bits, multiplied and combined. */
  function checksumOf(bytes: Buffer): bigint {
    let sum = 5381n;
    for (let at = 0; at < bytes.length; at += 8) {
      sum ^= BigInt.asUintN(64, bytes.readBigUInt64LE(at) * 0xbf58476d1ce4e5b9n);
    }
    return sum;
  }

  it('works without a set-up at the start when it was set up before', async () => {
    const store = await DuckDbStore.open({ file: await copy('set-up'), ...LIMITS });
    expect(await store.write([toWrite(makeRecord({ event: { id: 'more' } }))])).toMatchObject({ written: 1 });
    await store.close();
  });
});

describe('memory that does not suffice for a batch', () => {
  it('suffices for its parts: all of it is stored, revisions in order', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'spantrail-duckdb-'));
    const store = await DuckDbStore.open({ file: join(folder, 'small.duckdb'), memoryBytes: 80_000_000, threads: 1 });
    await store.setUp();
    const write = (number: number, rank: bigint) =>
      toWrite(makeRecord({ event: { id: `${number}` }, message: `${rank} ${'word '.repeat(2000)}` }), { rank });
    /** As the pump does: again while nobody but the machine is at fault. */
    const writeUntilTaken = async (batch: readonly RecordWrite[]) => {
      for (;;) {
        try {
          return await store.write(batch);
        } catch (error) {
          if (!(error instanceof AppError && error.retryable)) throw error;
        }
      }
    };
    const batch = Array.from({ length: 2000 }, (_, number) => write(number, 1n));
    expect(await writeUntilTaken(batch)).toEqual({ written: 2000, outranked: 0, rejected: [] });
    await writeUntilTaken([...batch.slice(0, 1500), ...batch.slice(0, 500).map((_, at) => write(at, 2n))]);
    expect(await store.ranks(batch)).toEqual(batch.map((_, number) => (number < 500 ? 2n : 1n)));
    expect(await store.count(ALL)).toBe(2000);
    await store.close();
    await rm(folder, { recursive: true });
  });
});
