import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { EXPECTED, EXPECTED_ALERTS } from '../../src/app/demo/cases.ts';
import { placesDatabase } from '../../src/app/demo/watched.ts';
import { mmdb } from '../fixtures/mmdb.ts';

const PROGRAM = join(import.meta.dirname, '../../src/cli/spantrail.mjs');
/** A machine whose cores are taken by other tests needs a multiple of the half minute. */
const DEMO_MS_MAX = 240_000;
const CARD_ROWS = ['actor', 'action', 'target', 'outcome', 'reason', 'duration', 'error origin', 'path'];

describe('the demo', () => {
  let folder = '';
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spantrail-demo-test-'));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  it('leaves an allowed, a refused, a failed and a slow access behind, in full', { timeout: DEMO_MS_MAX }, async () => {
    // The sender's environment must not lead the clinic's telemetry elsewhere.
    const environment = { ...process.env, TMPDIR: folder, OTEL_SDK_DISABLED: 'true', SPANTRAIL_API_PORT: 'none' };
    const run = promisify(execFile)(process.execPath, [PROGRAM, 'demo', '--once'], { env: environment });
    const { stdout, stderr } = await run;
    expect(stderr).toBe('');
    for (const { title } of EXPECTED) expect(stdout).toContain(`there    ${title}`);
    for (const { title } of EXPECTED.filter(({ shown }) => shown)) {
      const [, card = ''] = stdout.split(`\n  ${title}\n`);
      const rows = card.split('\n\n')[0]?.split('\n') ?? [];
      for (const name of CARD_ROWS) expect(rows.some((row) => row.trim().startsWith(name))).toBe(true);
    }
    for (const { title } of EXPECTED_ALERTS) expect(stdout).toContain(`there    one alert: ${title}`);
    expect(stdout).toMatch(/medium .*bela acts from BR for the first time/);
    expect(stdout).toMatch(/carl \(clerk\) was refused GET on patients\/7 .*from 10\.20\.0\.31: permission denied/);
    expect(stdout).toContain('someone claiming to be dora failed to log in from 203.0.113.66');
    expect(stdout).toMatch(/error origin records GET: ECONNREFUSED/);
    expect(await readdir(folder)).toEqual([]);
  });

  it('knows the places that it says', () => {
    const country = (code: string) => ({ country: { iso_code: code } });
    const places = { '10.20.0.0/16': country('CH'), '198.51.100.0/24': country('BR') };
    expect(placesDatabase()).toEqual(mmdb(places, 'Spantrail-Demo'));
  });

  it('leaves no process and no file behind when it is stopped', { timeout: DEMO_MS_MAX }, async () => {
    const environment = { ...process.env, TMPDIR: folder };
    const child = spawn(process.execPath, [PROGRAM, 'demo'], {
      env: environment,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const exited = once(child, 'exit');
    let printed = '';
    for await (const chunk of child.stdout.iterator({ destroyOnReturn: false })) {
      printed += String(chunk);
      if (printed.includes('alice logged in')) break;
    }
    expect(printed).toContain('alice logged in');
    const [url = ''] = /http:\/\/127\.0\.0\.1:\d+/.exec(printed) ?? [];
    expect((await fetch(`${url}/healthz`)).status).toBe(200);
    child.kill('SIGINT');
    expect(await exited).toEqual([0, null]);
    await expect(fetch(`${url}/healthz`)).rejects.toThrow();
    expect(await readdir(folder)).toEqual([]);
  });
});
