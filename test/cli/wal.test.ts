import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { lockDataFolder, openDataFolder } from '../../src/wal/data-folder.ts';
import { PIECE_HEAD_BYTES } from '../../src/wal/segment-blocks.ts';
import { HEADER_BYTES } from '../../src/wal/segment-format.ts';
import { SettleJournal } from '../../src/wal/settle-journal.ts';
import { Wal } from '../../src/wal/wal.ts';
import { frameOf, numberOf, replayed } from '../wal/helpers.ts';

/** `spantrail wal` as a user runs it, on real files. */

/** Four of them make a compressed block. */
const FRAME_BYTES = 300_000;
/** Seven of them fit: 0 to 6 in the first segment, 7 to 13 in the second, the others in the third. */
const SEGMENT_BYTES = 7.5 * FRAME_BYTES;

let folder = '';

beforeEach(async () => {
  folder = await openDataFolder(await mkdtemp(join(tmpdir(), 'spantrail-cli-wal-')));
  const first = await Wal.open({ folder: join(folder, 'wal'), segmentBytes: SEGMENT_BYTES, isCompressed: true });
  for (let number = 0; number < 7; number += 1) await first.append(frameOf(number, FRAME_BYTES));
  await first.close();
  const wal = await Wal.open({ folder: join(folder, 'wal'), segmentBytes: SEGMENT_BYTES });
  for (let number = 7; number < 20; number += 1) await wal.append(frameOf(number, FRAME_BYTES));
  await wal.close();
  const journal = await SettleJournal.open({ folder: join(folder, 'journal') });
  await journal.append([], { atMs: 1, storedBefore: 1, acceptedThrough: { segment: 1, offset: 32 }, totals: [] });
  await journal.close();
});

afterEach(() => rm(folder, { recursive: true }));

async function spantrail(...args: string[]) {
  const program = join(import.meta.dirname, '../../src/cli/spantrail.mjs');
  const child = spawn(process.execPath, [program, 'wal', ...args, '--data-dir', folder]);
  let [output, errors] = ['', ''];
  child.stdout.on('data', (chunk) => {
    output += chunk;
  });
  child.stderr.on('data', (chunk) => {
    errors += chunk;
  });
  const [code] = await once(child, 'close');
  return { code, output, errors, lines: output.split('\n').filter((line) => line !== '') };
}

async function damage(name: string, at: number): Promise<void> {
  const path = join(folder, 'wal', name);
  const bytes = await readFile(path);
  bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
  await writeFile(path, bytes);
}

describe('spantrail wal', () => {
  it('inspects a log that is whole, as a table and as JSON, and changes nothing', async () => {
    const { code, lines, errors } = await spantrail('inspect');
    expect([code, errors]).toEqual([0, '']);
    expect(lines[0]).toMatch(/^write-ahead log, .*\/wal: 3 segments, \d.* (K|M)iB$/);
    expect(lines[2]).toMatch(/^ {2}1 +compressed +\d+ +\d+ +7 {2}2026-09-21 14:13:20 {2}2026-09-21 14:13:20 {2}ok$/);
    expect(lines.slice(5)[0]).toMatch(/^settle journal, .*: 1 segment, /);
    const json = await spantrail('inspect', '--json');
    expect(json.lines.map((line) => JSON.parse(line))).toMatchObject([
      { log: 'wal', segment: 1, form: 'compressed', entries: 7, ok: true, from: '2026-09-21T14:13:20.000000000Z' },
      { log: 'wal', segment: 2, form: 'raw', entries: 7, ok: true },
      { log: 'wal', segment: 3, form: 'raw', entries: 6, ok: true, damage: [] },
      { log: 'journal', segment: 1, entries: 1, ok: true },
    ]);
    expect((await readdir(folder)).sort()).toEqual(['format', 'journal', 'wal']);
  });

  it('finds damage, repairs it and says what is lost', async () => {
    // In the first of two blocks, among what is compressed; and in the fourth frame.
    await damage('0000000001.walz', HEADER_BYTES + PIECE_HEAD_BYTES + 20);
    await damage('0000000002.wal', 3.5 * FRAME_BYTES);
    const before = await spantrail('inspect');
    expect(before.code).toBe(1);
    expect(before.errors).toMatch(
      /wal of .* is damaged \(4 segments read\); "spantrail wal repair --data-dir .*" takes it out/,
    );
    expect(before.output).toMatch(/0000000001.walz at 32: the checksum of a piece .* bytes lost, received from 2026-/);
    expect(before.output).toMatch(/2 +raw .*DAMAGED, /);
    const repair = await spantrail('repair');
    expect([repair.code, repair.errors]).toEqual([0, '']);
    expect(repair.lines).toEqual([
      expect.stringMatching(/0000000001.walz at 32: .*; kept as .*0000000001.walz.32.damaged$/),
      expect.stringMatching(/0000000002.wal at \d+: .*\d bytes lost, .*; kept as .*.damaged$/),
      expect.stringMatching(/^2 repaired: .* cannot be read any more$/),
    ]);
    const [, cutAt] = /0000000002.wal at (\d+)/.exec(repair.output) ?? [];
    // Where the fourth frame begins: behind three payloads, their heads and that of the file.
    expect(Number(cutAt)).toBeGreaterThan(3 * FRAME_BYTES);
    expect(Number(cutAt)).toBeLessThan(3.01 * FRAME_BYTES);
    const after = await spantrail('inspect', '--json');
    expect(after.code).toBe(0);
    expect(after.lines.filter((line) => line.includes('"kept"'))).toHaveLength(2);
    expect((await spantrail('repair')).lines).toEqual(['nothing to repair']);
    const wal = await Wal.open({ folder: join(folder, 'wal') });
    // Lost: the four frames of the block, and in the raw segment what is damaged and what stood behind it.
    expect((await replayed(wal)).map(numberOf)).toEqual([4, 5, 6, 7, 8, 9, 14, 15, 16, 17, 18, 19]);
    await wal.close();
  });

  it('inspects while serve runs, and does not repair then', async () => {
    const lock = await lockDataFolder(folder);
    const { code, lines } = await spantrail('inspect');
    expect(code).toBe(0);
    expect(lines[0]).toContain(`, in use by process ${process.pid}`);
    expect(lines[4]).toMatch(/ ok, open$/);
    const repair = await spantrail('repair');
    expect(repair).toMatchObject({ code: 1, output: '' });
    expect(repair.errors).toContain(`is in use by process ${process.pid}: stop it`);
    await lock.release();
  });

  it.each(['inspect', 'repair'])('%s says so when there is no such folder, and makes none', async (command) => {
    await rm(join(folder, 'wal'), { recursive: true });
    const { code, errors } = await spantrail(command);
    expect(code).toBe(1);
    expect(errors).toMatch(/is no data folder that can be read: ENOENT/);
    expect(await readdir(folder)).not.toContain('wal');
  });
});
