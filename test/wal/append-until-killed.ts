import { writeSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { Wal } from '../../src/wal/wal.ts';
import { frameOf } from './helpers.ts';

/**
 * Appends numbered frames to the folder for ever and prints each number once it is acknowledged; compacts what is sealed
 * meanwhile, oldest first.
 */
const wal = await Wal.open({ folder: process.argv[2] ?? '', segmentBytes: 20_000 });
let number = 0;
async function sender(): Promise<never> {
  for (;;) {
    number += 1;
    const mine = number;
    await wal.append(frameOf(mine, 10 + (mine % 3000)));
    writeSync(1, `${mine}\n`);
  }
}
async function compactor(): Promise<never> {
  for (;;) {
    wal.segments().some(({ segment }) => wal.startCompaction(segment));
    while (wal.isCompacting) await setImmediate();
    await setImmediate();
  }
}
await Promise.all([sender(), sender(), sender(), sender(), compactor()]);
