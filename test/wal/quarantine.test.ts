import { describe, expect, it } from 'vitest';
import { Counters } from '../../src/core/metrics.ts';
import { type KeptEntry, Quarantine, type QuarantineEntry, type QuarantineOptions } from '../../src/wal/quarantine.ts';
import { type CrashMode, MemoryDisk } from './memory-disk.ts';

const path = '/data/quarantine/quarantine.ndjson';
const AT = '2026-11-22T12:00:00.000000000Z';
const clock = { nowMs: () => Date.parse('2026-11-22T12:00:00Z') };

function open(disk: MemoryDisk, options: QuarantineOptions = {}): Promise<Quarantine> {
  return Quarantine.open('/data/quarantine', { disk, clock, ...options });
}

function entry(id: string, body: unknown = { message: `line\n${id}` }, stage = 'store'): QuarantineEntry {
  return { stage, reason: 'refused by the mapping', id, body };
}

async function listed(quarantine: Quarantine, filter: { isOpen?: boolean; stage?: string } = {}): Promise<KeptEntry[]> {
  const entries: KeptEntry[] = [];
  let after: string | undefined;
  do {
    const page = await quarantine.page({ ...filter, limit: 2, after });
    entries.push(...page.entries);
    after = page.next;
  } while (after !== undefined);
  return entries;
}

async function ids(quarantine: Quarantine, filter: { isOpen?: boolean; stage?: string } = {}): Promise<string[]> {
  return (await listed(quarantine, filter)).map(({ id }) => id);
}

async function keyOf(quarantine: Quarantine, id: string): Promise<string> {
  const found = (await listed(quarantine)).find((one) => one.id === id);
  if (!found) throw new Error(`${id} is not there`);
  return found.key;
}

describe('quarantine', () => {
  it('keeps what was added, across restarts and crashes, as lines of JSON', async () => {
    const disk = new MemoryDisk();
    const first = await open(disk);
    await Promise.all([
      first.add([entry('a'), entry('b', { at: 5n, raw: Buffer.from('hi') })]),
      first.add([entry('c')]),
    ]);
    await first.add([]);
    disk.crash('nothing unsynced');
    const second = await open(disk);
    await second.add([entry('d', 'x'.repeat(600_000))]);
    const all = [entry('a'), entry('b', { at: '5', raw: 'aGk=' }), entry('c'), entry('d', 'x'.repeat(600_000))];
    const [header, ...lines] = disk.bytesOf(path).toString().trimEnd().split('\n');
    expect(JSON.parse(header ?? '')).toEqual({ spantrail: 'quarantine', version: 2, resolved: [] });
    expect(lines.map((line) => JSON.parse(line))).toEqual(
      all.map((one) => ({ ...one, addedAt: AT, key: expect.stringMatching(/^[0-9a-f]{16}$/) })),
    );
    expect(await ids(second)).toEqual(['a', 'b', 'c', 'd']);
    expect(await second.get(await keyOf(second, 'b'))).toMatchObject(entry('b', { at: '5', raw: 'aGk=' }));
    await second.close();
  });

  it('holds the same stage, id and reason once, with the newest body, whatever is repeated', async () => {
    const disk = new MemoryDisk();
    const first = await open(disk);
    await first.add([entry('a', 1), entry('a', 2), entry('a', 2, 'settle'), { ...entry('a', 2), reason: 'other' }]);
    const key = await keyOf(first, 'a');
    const bytes = disk.bytesOf(path).length;
    await first.add([entry('a', 2)]);
    expect(disk.bytesOf(path).length).toBe(bytes);
    disk.crash('nothing unsynced');
    const second = await open(disk);
    await second.add([entry('a', 3), entry('b')]);
    expect(await ids(second)).toEqual(['a', 'a', 'a', 'b']);
    expect(await second.get(key)).toMatchObject({ key, stage: 'store', body: 3 });
    expect(second.status()).toMatchObject({ open: 4, damaged: 0 });
    expect(await ids(second, { stage: 'settle' })).toEqual(['a']);
  });

  it('remembers how each was resolved, and opens it again when it comes back', async () => {
    const disk = new MemoryDisk();
    const counters = new Counters();
    const first = await open(disk);
    await first.add([entry('a'), entry('b'), entry('c')]);
    const [a, b] = [await keyOf(first, 'a'), await keyOf(first, 'b')];
    expect(await first.resolve(a, 'retried', 'stored')).toBe(true);
    expect(await first.resolve(b, 'dropped', 'a load test')).toBe(true);
    expect(await first.resolve(b, 'retried', 'stored')).toBe(false);
    expect(await first.resolve('ffffffffffffffff', 'dropped', 'x')).toBe(false);
    disk.crash('nothing unsynced');
    const second = await open(disk, { counters });
    expect(await ids(second, { isOpen: true })).toEqual(['c']);
    expect(await listed(second, { isOpen: false })).toEqual([
      { ...kept('a', a), resolved: { how: 'retried', at: AT, why: 'stored' } },
      { ...kept('b', b), resolved: { how: 'dropped', at: AT, why: 'a load test' } },
    ]);
    expect(await second.get(b)).not.toHaveProperty('body');
    await second.add([entry('b')]);
    expect(await ids(second, { isOpen: true })).toEqual(['b', 'c']);
    expect(counters.total('quarantine_resolved', { stage: 'store', how: 'dropped' })).toBe(1);
    expect(counters.total('quarantine_open', { stage: 'store' })).toBe(2);
    expect(counters.total('quarantine_bytes')).toBe(second.status().bytes);
  });

  function kept(id: string, key: string) {
    return { key, stage: 'store', reason: 'refused by the mapping', id, addedAt: AT };
  }

  it('takes no more when it is full, says so, and goes on when there is room', async () => {
    const disk = new MemoryDisk();
    const quarantine = await open(disk, { bytesMax: 1000 });
    await quarantine.add([entry('a', 'x'.repeat(400))]);
    await quarantine.add([entry('b', 'x'.repeat(600)), entry('c')]);
    const full = { code: 'unavailable', message: expect.stringMatching(/full \(3 entries, \d+ bytes\).*bytesMax/) };
    await expect(quarantine.add([entry('d')])).rejects.toMatchObject(full);
    expect(await ids(quarantine)).toEqual(['a', 'b', 'c']);
    await quarantine.resolve(await keyOf(quarantine, 'b'), 'dropped', 'room');
    await quarantine.add([entry('d')]);
    expect(await ids(quarantine, { isOpen: true })).toEqual(['a', 'c', 'd']);
  });

  it('gives the space of what is resolved back, and keeps the sums', async () => {
    const disk = new MemoryDisk();
    const counters = new Counters();
    const quarantine = await open(disk, { counters });
    for (let number = 0; number < 40; number++) {
      await quarantine.add([entry(`${number}`, 'x'.repeat(100_000))]);
      if (number % 10 !== 0) await quarantine.resolve(await keyOf(quarantine, `${number}`), 'dropped', 'big');
    }
    expect(disk.bytesOf(path).length).toBeLessThan(2_000_000);
    expect(disk.count('rename')).toBeGreaterThan(0);
    const open4 = ['0', '10', '20', '30'];
    expect(await ids(quarantine, { isOpen: true })).toEqual(open4);
    disk.crash('nothing unsynced');
    const again = await open(disk, { counters });
    expect(await ids(again, { isOpen: true })).toEqual(open4);
    expect((await again.get(await keyOf(again, '20')))?.body).toBe('x'.repeat(100_000));
    expect(await ids(again, { isOpen: false })).toHaveLength(36);
    expect(counters.total('quarantine_resolved')).toBe(36);
    expect(disk.paths()).toEqual([path]);
  });

  it('lists the newest ten thousand resolutions and counts the others', async () => {
    const disk = new MemoryDisk();
    const counters = new Counters();
    const lines = Array.from({ length: 21_000 }, (_, number) => {
      const resolved = { how: number % 2 === 0 ? 'dropped' : 'retried', at: AT, why: 'x' };
      return `${JSON.stringify({ ...kept(`${number}`, number.toString(16).padStart(16, '0')), resolved })}\n`;
    });
    disk.plant(path, Buffer.from(lines.join('')));
    await (await open(disk)).close();
    const quarantine = await open(disk, { counters });
    const page = await quarantine.page({ limit: 20_000 });
    expect(page.entries.map(({ id }) => id)).toEqual(Array.from({ length: 10_000 }, (_, at) => `${at + 11_000}`));
    expect(counters.total('quarantine_resolved', { stage: 'store', how: 'dropped' })).toBe(10_500);
    expect(counters.total('quarantine_resolved', { stage: 'store', how: 'retried' })).toBe(10_500);
  });

  it('reads what an earlier version wrote', async () => {
    const disk = new MemoryDisk();
    disk.plant(path, Buffer.from(`${JSON.stringify(entry('a'))}\n`));
    const quarantine = await open(disk);
    await quarantine.add([entry('a'), entry('b')]);
    expect(await ids(quarantine)).toEqual(['a', 'b']);
    expect(await quarantine.resolve(await keyOf(quarantine, 'a'), 'retried', 'stored')).toBe(true);
  });

  it('is refused when a newer version wrote it', async () => {
    const disk = new MemoryDisk();
    disk.plant(path, Buffer.from('{"spantrail":"quarantine","version":3}\n'));
    await expect(open(disk)).rejects.toMatchObject({ code: 'storage', message: expect.stringMatching(/newer.*3.*2/) });
  });

  it('cuts off a line that a crash left unfinished, and tells of damaged ones', async () => {
    const disk = new MemoryDisk();
    const first = await open(disk);
    await first.add([entry('a')]);
    const whole = disk.bytesOf(path);
    disk.plant(path, Buffer.concat([whole, Buffer.from(`not JSON\n{"stage":"${'x'.repeat(999)}`)]));
    const found: object[] = [];
    const second = await open(disk, { report: (damage) => found.push(damage) });
    await second.add([entry('b')]);
    expect(found).toEqual([{ file: path, offset: whole.length, bytes: 8 }]);
    expect(second.status().damaged).toBe(1);
    expect(await ids(second)).toEqual(['a', 'b']);
    expect(disk.bytesOf(path).toString()).toMatch(/^.+\n.+\nnot JSON\n.+\n$/);
  });

  it.each([0, 1])('says so when step %i of an add fails, and adds again', async (step) => {
    const disk = new MemoryDisk();
    const quarantine = await open(disk);
    await quarantine.add([entry('a')]);
    disk.faults = [{ step: disk.steps.length + step, mode: 'fails but persisted' }];
    await expect(quarantine.add([entry('lost', 'x'.repeat(500))])).rejects.toMatchObject({ code: 'unavailable' });
    await quarantine.add([entry('b')]);
    disk.crash('nothing unsynced');
    expect(await ids(await open(disk))).toEqual(['a', 'b']);
  });

  it('adds nothing behind a failed addition that cannot be cut off', async () => {
    const disk = new MemoryDisk();
    const quarantine = await open(disk);
    await quarantine.add([entry('a')]);
    const step = disk.steps.length;
    disk.faults = [
      { step, mode: 'fails but persisted' },
      { step: step + 1, mode: 'fails' },
      { step: step + 2, mode: 'fails' },
    ];
    const lost = Array.from({ length: 9 }, (_, number) => entry(`lost ${number}`));
    await expect(quarantine.add(lost)).rejects.toMatchObject({ code: 'unavailable' });
    await expect(quarantine.add([entry('c')])).rejects.toMatchObject({ code: 'unavailable' });
    await quarantine.add([entry('b')]);
    disk.crash('all of it');
    const again = await open(disk);
    expect(await ids(again)).toEqual(['a', 'b']);
    expect(again.status().damaged).toBe(0);
  });

  it('takes nothing more until the name of the file written anew is on the medium', async () => {
    const disk = new MemoryDisk();
    const quarantine = await open(disk);
    await quarantine.add([entry('a', 'x'.repeat(2_000_000)), entry('b')]);
    const key = await keyOf(quarantine, 'a');
    const renamed = disk.steps.length + 6;
    disk.faults = [0, 1].map((more) => ({ step: renamed + more, mode: 'fails' }) as const);
    await quarantine.resolve(key, 'dropped', 'big');
    expect(disk.steps.slice(-2)).toEqual(['rename', 'syncFolder']);
    await expect(quarantine.add([entry('c')])).rejects.toMatchObject({ code: 'unavailable' });
    await quarantine.add([entry('d')]);
    disk.crash('nothing unsynced');
    expect(await ids(await open(disk), { isOpen: true })).toEqual(['b', 'd']);
  });

  const CRASHES: readonly CrashMode[] = ['nothing unsynced', 'half of it', 'all of it'];
  it.each(CRASHES)('loses nothing when it is killed at any step of its life (%s)', async (crash) => {
    for (let step = 0; ; step++) {
      const disk = new MemoryDisk();
      disk.faults = [{ step, mode: 'killed' }];
      const [isOpen, isResolved] = [new Set<string>(), new Set<string>()];
      const wasKilled = await live(disk, isOpen, isResolved).then(
        () => false,
        () => true,
      );
      disk.crash(crash);
      const quarantine = await open(disk);
      const found = await ids(quarantine);
      expect(new Set(found).size, `killed at ${step}`).toBe(found.length);
      for (const id of [...isOpen, ...isResolved]) expect(found, `killed at ${step}`).toContain(id);
      const resolved = await ids(quarantine, { isOpen: false });
      for (const id of isResolved) expect(resolved, `killed at ${step}`).toContain(id);
      if (!wasKilled) return;
    }
  });

  /** Adds and resolves, so that the file is written anew, too, and notes what was acknowledged. */
  async function live(disk: MemoryDisk, isOpen: Set<string>, isResolved: Set<string>): Promise<void> {
    const quarantine = await open(disk);
    for (const id of ['a', 'b', 'c', 'd', 'e']) {
      await quarantine.add([entry(id, 'x'.repeat(id === 'e' ? 10 : 700_000))]);
      isOpen.add(id);
      if (id === 'e') continue;
      await quarantine.resolve(await keyOf(quarantine, id), 'retried', 'stored');
      isResolved.add(id);
    }
    await quarantine.close();
  }
});
