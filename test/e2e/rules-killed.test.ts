import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Alert } from '../../src/core/alert.ts';
import { type RunningProcess, startProcess } from './spantrail.ts';

const RULES = `
- id: failures
  name: Repeated failures
  type: threshold
  severity: high
  query: 'event.outcome: failure'
  group_by: user.id
  window: 5m
  threshold: { value: 12 }
- id: spread
  name: Many targets
  type: threshold
  severity: high
  query: '*'
  group_by: user.id
  window: 5m
  threshold: { cardinality: { field: audit.target.id, value: 30 } }
- id: after
  name: Success after failures
  type: threshold
  severity: critical
  query: 'event.outcome: failure'
  group_by: user.id
  window: 5m
  threshold: { value: 12 }
  then: 'event.outcome: success'
- id: first
  name: First of its kind
  type: new_terms
  severity: low
  query: '*'
  group_by: user.id
  new_terms: { fields: event.action, history: 7d }
`;

const EVENTS = 40;
/** The process ends right after these were acknowledged: in the middle of every window. */
const KILLED_AFTER = [5, 11, 29];
/** Five starts, on a machine that may have much else to do. */
const TIMEOUT_MS = 300_000;

let folder = '';
const running: RunningProcess[] = [];
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'spantrail-killed-'));
  await writeFile(join(folder, 'rules.yaml'), RULES);
});
afterAll(async () => {
  for (const one of running) await one.stop('SIGKILL');
  await rm(folder, { recursive: true });
});

/** In one cell of time, whenever the test runs: a window may not begin anew in it. */
const startMs = Math.floor((Date.now() - 60_000) / 300_000) * 300_000 + 1000;

function eventOf(number: number): object {
  return {
    ...{ id: `e${number}`, time: new Date(startMs + number * 250).toISOString(), actor: { id: 'alice' } },
    ...{ action: number === 31 ? 'export' : 'open', outcome: number < 24 ? 'failure' : 'success' },
    target: { type: 'patient', id: `patients/${number % 35}` },
  };
}

async function run(name: string, killedAfter: readonly number[]): Promise<Alert[]> {
  const start = async () => {
    const environment = {
      SPANTRAIL_DETECT_SHIPPED_RULES: 'false',
      SPANTRAIL_DETECT_RULES_FILES: JSON.stringify([join(folder, 'rules.yaml')]),
    };
    const one = await startProcess(['--data-dir', join(folder, name)], environment);
    running.push(one);
    return one;
  };
  let spantrail = await start();
  for (let number = 0; number < EVENTS; number++) {
    const response = await fetch(`http://127.0.0.1:${spantrail.http}/v1/access`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(eventOf(number)),
    });
    expect(response.status).toBe(200);
    if (!killedAfter.includes(number)) continue;
    // Some of what was acknowledged is stored by then, some is on its way.
    await new Promise((resolve) => setTimeout(resolve, (number % 3) * 60));
    await spantrail.stop('SIGKILL');
    spantrail = await start();
  }
  await spantrail.settled();
  const response = await fetch(`http://127.0.0.1:${spantrail.api}/api/v1/alerts?limit=100`);
  const { alerts } = (await response.json()) as { alerts: Alert[] };
  await spantrail.stop();
  return alerts.sort((a, b) => (a.rule.id < b.rule.id ? -1 : 1));
}

describe('SIGKILL in the middle of windows', () => {
  it('leaves the same alerts as none', { timeout: TIMEOUT_MS }, async () => {
    const expected = await run('whole', []);
    const found = await run('killed', KILLED_AFTER);
    const told = (alerts: readonly Alert[]) =>
      alerts.map(({ id, rule, count, value, records, history }) => ({
        ...{ id, rule: rule.id, count, value, history },
        records: [...records].sort(),
      }));
    expect(expected.map(({ rule }) => rule.id)).toEqual(['after', 'failures', 'first', 'spread']);
    expect(expected.map(({ count }) => count)).toEqual([40, 24, 1, 40]);
    expect(told(found)).toEqual(told(expected));
  });
});
