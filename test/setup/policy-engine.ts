/**
 * A real Open Policy Agent for tests, built from its public Go module, once a machine: the binary is kept in the cache under its
 * version. The first build takes some minutes of processor time. It is required whenever the Collector is: both need Go.
 */
import { mkdtemp, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { cacheFolder, exists, isInstalled, runProgram } from './cache.ts';
import { lacking, requirement, type Skipped } from './require.ts';

const VERSION = 'v1.8.0';

export interface PolicyEngineBinary {
  /** Path of the executable. */
  readonly binary: string;
}

export async function providePolicyEngine(): Promise<PolicyEngineBinary | Skipped> {
  const folder = await cacheFolder('opa');
  const binary = join(folder, `opa-${VERSION}`);
  if (await exists(binary)) return { binary };
  if (!(await isInstalled('go')))
    return lacking('collector', 'not installed: Go (go), to build Open Policy Agent with');
  if (requirement('collector') === 'optional')
    return { skipped: 'Open Policy Agent has not been built (some minutes)' };
  const partial = await mkdtemp(join(folder, 'partial-'));
  try {
    const environment = { GOBIN: partial, GOFLAGS: '-mod=mod -trimpath -buildvcs=false' };
    await runProgram('go', ['install', '-ldflags=-s -w', `github.com/open-policy-agent/opa@${VERSION}`], {
      environment,
    });
    await rename(join(partial, 'opa'), binary);
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
  return { binary };
}
