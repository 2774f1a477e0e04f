import { execFileSync } from 'node:child_process';
import { getPriority } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const MODULE = join(import.meta.dirname, '../../src/app/collector.ts');

interface Seen {
  readonly minor: number;
  readonly major: number;
  readonly nice: readonly number[];
}

/** A process that receives a gigabyte, as messages that it lets go of. */
function receive(isTended: boolean): Seen {
  const script = `
    import { readdirSync, readFileSync } from 'node:fs';
    import { getPriority } from 'node:os';
    import { constants, PerformanceObserver } from 'node:perf_hooks';
    import { tendCollector } from ${JSON.stringify(MODULE)};
    const seen = { minor: 0, major: 0, nice: [] };
    new PerformanceObserver((list) => {
      for (const { detail } of list.getEntries()) {
        if (detail.kind === constants.NODE_PERFORMANCE_GC_MINOR) seen.minor++;
        if (detail.kind === constants.NODE_PERFORMANCE_GC_MAJOR) seen.major++;
      }
    }).observe({ entryTypes: ['gc'] });
    const collector = ${isTended} ? tendCollector() : undefined;
    for (let message = 0; message < 4096; message++) {
      Buffer.alloc(256 * 1024);
      collector?.received(256 * 1024);
      if (message % 16 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    if (process.platform === 'linux') {
      for (const thread of readdirSync('/proc/self/task')) {
        const name = readFileSync('/proc/self/task/' + thread + '/comm', 'utf8').trim();
        if (name === 'V8Worker') seen.nice.push(getPriority(Number(thread)));
      }
    }
    collector?.close();
    console.log(JSON.stringify(seen));
  `;
  const environment = { ...process.env, NODE_OPTIONS: '' };
  return JSON.parse(
    execFileSync(process.execPath, ['--input-type=module', '-e', script], { env: environment }).toString(),
  );
}

test('what is received is collected with the new objects, hardly ever with all that is old', () => {
  const before = receive(false);
  const after = receive(true);
  expect(before.major).toBeGreaterThan(4);
  expect(after.major).toBeLessThan(before.major / 2);
  expect(after.minor).toBeGreaterThanOrEqual(60);
});

test("V8's helper threads step back", () => {
  const own = getPriority();
  for (const nice of receive(false).nice) expect(nice).toBe(own);
  for (const nice of receive(true).nice) expect(nice).toBe(Math.max(own, 7));
});
