/**
 * Prometheus' own checker and evaluator of rules, as the machine has it, or taken out of Debian's package `prometheus` into the cache:
 * that takes seconds, while building it from its Go module takes minutes, and nothing is installed.
 */
import { mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { cacheFolder, exists, findProgram, isInstalled, runProgram } from './cache.ts';
import { lacking, requirement, type Skipped } from './require.ts';

export interface PromtoolBinary {
  /** Path of the executable. */
  readonly binary: string;
}

export async function providePromtool(): Promise<PromtoolBinary | Skipped> {
  const installed = await findProgram('promtool');
  if (installed !== undefined) return { binary: installed };
  const folder = await cacheFolder('prometheus');
  const binary = join(folder, 'promtool');
  if (await exists(binary)) return { binary };
  if (!(await isInstalled('apt-get'))) return lacking('prometheus', 'not installed: promtool (prometheus)');
  if (requirement('prometheus') === 'optional') return { skipped: 'promtool has not been fetched' };
  const partial = await mkdtemp(join(folder, 'partial-'));
  try {
    const download = () => runProgram('apt-get', ['download', '-q', 'prometheus'], { folder: partial });
    // A new machine has no lists of packages yet.
    await download().catch(() => runProgram('apt-get', ['update', '-qq']).then(download));
    const archive = (await readdir(partial)).find((name) => name.endsWith('.deb')) ?? '';
    await runProgram('dpkg-deb', ['--extract', archive, '.'], { folder: partial });
    await rename(join(partial, 'usr/bin/promtool'), binary);
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
  return { binary };
}
