/** A real Chromium for tests, as the machine has it; it is driven by playwright-core, which brings none of its own. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type BrowserContext, chromium } from 'playwright-core';
import { findProgram } from './cache.ts';
import { lacking, type Skipped } from './require.ts';

export interface BrowserBinary {
  /** Path of the executable. */
  readonly binary: string;
}

/** Debian's name first. */
const NAMES = ['chromium', 'chromium-browser', 'google-chrome'];

/** Without a sandbox, since CI runs as root; without everything that asks the network by itself. */
const ARGUMENTS = [
  ...['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'],
  ...['--disable-component-update', '--disable-sync', '--disable-dev-shm-usage'],
];

export async function provideBrowser(): Promise<BrowserBinary | Skipped> {
  for (const name of NAMES) {
    const binary = await findProgram(name);
    if (binary !== undefined) return { binary };
  }
  return lacking('browser', 'not installed: Chromium (chromium)');
}

/** A browser with a new profile, which is removed when it is closed. */
export async function openBrowser({
  binary,
}: BrowserBinary): Promise<{ context: BrowserContext; close(): Promise<void> }> {
  const profile = await mkdtemp(join(tmpdir(), 'spantrail-browser-'));
  const remove = () => rm(profile, { recursive: true, force: true, maxRetries: 5 });
  try {
    const options = { executablePath: binary, headless: true, args: ARGUMENTS };
    const context = await chromium.launchPersistentContext(profile, options);
    return { context, close: () => context.close().finally(remove) };
  } catch (error) {
    await remove();
    throw error;
  }
}
