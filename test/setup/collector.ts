/**
 * A real OpenTelemetry Collector for tests, built from public Go modules as collector-builder.yaml says, once a machine: the
 * binary is kept in the cache under the hash of that manifest. The first build takes some four minutes of processor time.
 */
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cacheFolder, exists, isInstalled, runProgram } from './cache.ts';
import { lacking, requirement, type Skipped } from './require.ts';

const MANIFEST = join(import.meta.dirname, 'collector-builder.yaml');
const BUILDER = 'go.opentelemetry.io/collector/cmd/builder@v0.160.0';

export interface CollectorBinary {
  /** Path of the executable. */
  readonly binary: string;
}

export async function provideCollector(): Promise<CollectorBinary | Skipped> {
  const manifest = await readFile(MANIFEST);
  const key = createHash('sha256').update(manifest).digest('hex').slice(0, 16);
  const binary = join(await cacheFolder('collector'), `otelcol-${key}`);
  if (await exists(binary)) return { binary };
  if (!(await isInstalled('go'))) return lacking('collector', 'not installed: Go (go), to build the Collector with');
  if (requirement('collector') === 'optional') return { skipped: 'the Collector has not been built (some minutes)' };
  await build(binary);
  return { binary };
}

async function build(binary: string): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'spantrail-collector-'));
  try {
    const environment = { GOBIN: folder, GOFLAGS: '-mod=mod' };
    await runProgram('go', ['install', BUILDER], { environment });
    await writeFile(join(folder, 'builder.yaml'), await readFile(MANIFEST));
    // The builder writes the sources and then stumbles over a dependency that only tests need; `tidy -e` passes over it.
    const generate = ['--config', 'builder.yaml', '--skip-compilation'];
    await runProgram(join(folder, 'builder'), generate, { folder, environment }).catch((error: unknown) => error);
    const out = join(folder, 'out');
    await runProgram('go', ['mod', 'tidy', '-e'], { folder: out, environment });
    const flags = ['-mod=mod', '-trimpath', '-buildvcs=false', '-ldflags=-s -w'];
    await runProgram('go', ['build', ...flags, '-o', `${binary}.partial`, '.'], { folder: out, environment });
    await rename(`${binary}.partial`, binary);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
