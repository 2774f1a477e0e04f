/**
 * The npm package, packed once for all tests of a run: packing writes `dist` in the checkout, so two at a time would be in each
 * other's way.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { runProgram } from './cache.ts';

export interface PackedPackage {
  /** Path of the file that `npm publish` would send. */
  readonly tarball: string;
}

const checkout = resolve(import.meta.dirname, '../..');

/** `remove` takes the file away. */
export async function packPackage(): Promise<PackedPackage & { remove(): Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), 'spantrail-packed-'));
  const packed = await runProgram('npm', ['pack', '--json', '--pack-destination', folder], { folder: checkout });
  const [{ filename }] = JSON.parse(packed.slice(packed.indexOf('['))) as [{ filename: string }];
  return { tarball: join(folder, filename), remove: () => rm(folder, { recursive: true, force: true }) };
}
