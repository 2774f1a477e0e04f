import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { readChecked, writeChecked } from '../../src/coverage/checked-file.ts';
import { nodeDisk } from '../../src/wal/disk.ts';

const FORMAT = 'checked-file-test';

/** Some 300 KB of text that is not all ASCII. */
const LINES = Array.from({ length: 3_000 }, (_, line) => ({ line, text: 'größer 🦔 '.repeat(7) }));

async function newFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'spantrail-checked-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  return folder;
}

test('a long file that is made part by part is one file', async () => {
  const folder = await newFolder();
  let [made, pauses] = [0, 0];
  const madeAtPauses: number[] = [];
  function* lines() {
    for (const line of LINES) {
      made++;
      yield line;
    }
  }
  const pause = async () => {
    pauses++;
    madeAtPauses.push(made);
  };
  await writeChecked(nodeDisk, join(folder, 'parts'), FORMAT, lines(), pause);
  await writeChecked(nodeDisk, join(folder, 'whole'), FORMAT, LINES);
  expect(pauses).toBeGreaterThan(2);
  expect(madeAtPauses.every((count) => count < LINES.length)).toBe(true);
  for (const name of ['parts', 'whole']) {
    expect(await readChecked(nodeDisk, join(folder, name), FORMAT)).toEqual({ kind: 'lines', lines: LINES });
  }
});

test('a file without a line is one, too', async () => {
  const folder = await newFolder();
  await writeChecked(nodeDisk, join(folder, 'none'), FORMAT, []);
  expect(await readChecked(nodeDisk, join(folder, 'none'), FORMAT)).toEqual({ kind: 'lines', lines: [] });
});
