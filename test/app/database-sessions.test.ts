import { describe, expect, it } from 'vitest';
import { openDatabaseSessions } from '../../src/app/database-sessions.ts';
import type { FrameNote } from '../../src/core/evidence.ts';
import { Counters } from '../../src/core/metrics.ts';
import type { Disk } from '../../src/wal/disk.ts';
import { encodeLogs } from '../otlp/encode.ts';
import { MemoryDisk } from '../wal/memory-disk.ts';

const NOTE: FrameNote = { receivedNs: 0n, namespace: 'd', sender: 'grpc', trusted: true, vouches: false, peer: '' };
const FOLDER = '/data';
const FILE = `${FOLDER}/database-sessions`;

const line = (number: number, comment = '') =>
  encodeLogs([
    {
      attributes: { 'host.name': 'db1' },
      logs: [
        {
          body: `session=6b032068.c74 line=${number} vxid=3/${number} LOG:  AUDIT: SESSION,1,1,READ,SELECT,,,select 1${comment}`,
        },
      ],
    },
  ]);
const named = line(1, ` /*traceparent='00-${'a'.repeat(32)}-${'b'.repeat(16)}-01'*/`);

async function open(disk: Disk) {
  const warnings: string[] = [];
  const waiting: (() => void)[] = [];
  const counters = new Counters();
  const after = (_: number, act: () => void) => {
    waiting.push(act);
    return () => undefined;
  };
  const opened = await openDatabaseSessions({
    ...{ folder: FOLDER, disk, counters },
    scheduler: { after, elapsedMs: () => 0, random: () => 0 },
    log: { info: () => undefined, warn: (_, words) => void warnings.push(words), error: () => undefined },
  });
  const isTied = () => {
    const payload = line(2);
    return opened.tie(payload, NOTE) !== payload;
  };
  return { ...opened, isTied, warnings, waiting, counters };
}

describe('sessions of databases', () => {
  it('are known after a restart', async () => {
    const disk = new MemoryDisk();
    const first = await open(disk);
    expect(first.isTied()).toBe(false);
    first.tie(named, NOTE);
    expect(first.isTied()).toBe(true);
    expect(first.counters.samples().filter(({ name }) => name === 'tied')).toMatchObject([
      { labels: { tie: 'statement' }, value: 1 },
      { labels: { tie: 'session' }, value: 1 },
    ]);
    await first.close();
    const second = await open(disk);
    expect(second.isTied()).toBe(true);
    expect([...first.warnings, ...second.warnings]).toEqual([]);
  });

  it('are written now and then, once for all that came', async () => {
    const disk = new MemoryDisk();
    const { tie, waiting, close } = await open(disk);
    for (let count = 0; count < 5; count++) tie(named, NOTE);
    expect(waiting).toHaveLength(1);
    waiting[0]?.();
    await close();
    expect(await (await open(disk)).isTied()).toBe(true);
  });

  it('are begun anew where the file is damaged, and that is told', async () => {
    const disk = new MemoryDisk();
    disk.plant(FILE, Buffer.from('nonsense'));
    const first = await open(disk);
    expect(first.warnings).toEqual(['what is known of database sessions is lost']);
    first.tie(named, NOTE);
    await first.close();
    expect((await open(disk)).isTied()).toBe(true);
  });

  it('are known on while the file cannot be written, and that is told once', async () => {
    const disk = new MemoryDisk();
    disk.capacityBytes = 0;
    const { tie, isTied, waiting, warnings, close } = await open(disk);
    tie(named, NOTE);
    waiting.at(-1)?.();
    tie(named, NOTE);
    waiting.at(-1)?.();
    await close();
    expect(isTied()).toBe(true);
    expect(warnings).toHaveLength(1);
  });
});
