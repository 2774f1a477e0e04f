import { writeSync } from 'node:fs';
import { Wal } from '../../src/wal/wal.ts';
import { frameOf } from './helpers.ts';

/**
 * Appends numbered frames to the folder for ever, compressed where the second argument says so, and prints each number once it
 * is acknowledged.
 */
const [folder = '', form] = process.argv.slice(2);
const wal = await Wal.open({ folder, segmentBytes: 20_000, isCompressed: form === 'compressed' });
let number = 0;
async function sender(): Promise<never> {
  for (;;) {
    number += 1;
    const mine = number;
    await wal.append(frameOf(mine, 10 + (mine % 3000)));
    writeSync(1, `${mine}\n`);
  }
}
await Promise.all([sender(), sender(), sender(), sender()]);
