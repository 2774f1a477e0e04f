import { describe, expect, it } from 'vitest';
import { Quarantine, type QuarantineEntry } from '../../src/wal/quarantine.ts';
import { MemoryDisk } from './memory-disk.ts';

const path = '/data/quarantine/quarantine.ndjson';

function entry(id: string, body: unknown = { message: `line\n${id}` }): QuarantineEntry {
  return { stage: 'store', reason: 'refused by the mapping', id, body };
}

async function listed(quarantine: Quarantine): Promise<QuarantineEntry[]> {
  const entries: QuarantineEntry[] = [];
  for await (const one of quarantine.list()) entries.push(one);
  return entries;
}

describe('quarantine', () => {
  it('keeps what was added, across restarts and crashes, as lines of JSON', async () => {
    const disk = new MemoryDisk();
    const first = await Quarantine.open('/data/quarantine', disk);
    await Promise.all([
      first.add([entry('a'), entry('b', { at: 5n, raw: Buffer.from('hi') })]),
      first.add([entry('c')]),
    ]);
    await first.add([]);
    disk.crash('nothing unsynced');
    const second = await Quarantine.open('/data/quarantine', disk);
    await second.add([entry('d', 'x'.repeat(600_000))]);
    const all = [entry('a'), entry('b', { at: '5', raw: 'aGk=' }), entry('c'), entry('d', 'x'.repeat(600_000))];
    expect(await listed(second)).toEqual(all);
    const lines = disk.bytesOf(path).toString().trimEnd().split('\n');
    expect(lines.map((line) => JSON.parse(line))).toEqual(all);
    await second.close();
  });

  it('cuts off a line that a crash left unfinished', async () => {
    const disk = new MemoryDisk();
    const first = await Quarantine.open('/data/quarantine', disk);
    await first.add([entry('a')]);
    disk.plant(path, Buffer.concat([disk.bytesOf(path), Buffer.from(`{"stage":"${'x'.repeat(999)}`)]));
    const second = await Quarantine.open('/data/quarantine', disk);
    await second.add([entry('b')]);
    expect(await listed(second)).toEqual([entry('a'), entry('b')]);
    expect(disk.bytesOf(path).toString()).toMatch(/^.+\n.+\n$/);
  });

  it.each([0, 1])('says so when step %i of an add fails, and adds again', async (step) => {
    const disk = new MemoryDisk();
    const quarantine = await Quarantine.open('/data/quarantine', disk);
    await quarantine.add([entry('a')]);
    disk.faults = [{ step: disk.steps.length + step, mode: 'fails but persisted' }];
    await expect(quarantine.add([entry('lost', 'x'.repeat(500))])).rejects.toMatchObject({ code: 'unavailable' });
    await quarantine.add([entry('b')]);
    disk.crash('nothing unsynced');
    expect(await listed(await Quarantine.open('/data/quarantine', disk))).toEqual([entry('a'), entry('b')]);
  });
});
