import { describe, expect, it } from 'vitest';
import { type PipelineAction, subjectOfNews } from '../../src/app/detect-news.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import type { Subject } from '../../src/detect/subject.ts';
import type { Overrides } from '../fixtures/records.ts';
import { accessAt, alertsAfter, DAY_MS, engineWith, HOUR_MS, MONDAY_MS, SECOND_MS, shippedRules } from './shipped.ts';

type Sight = AuditRecord | Subject;
type Shape = Overrides<AuditRecord>;

/** What makes a rule fire once, and what is near to it and must not. */
interface Case {
  readonly rule: string;
  readonly fires: () => Sight[];
  /** A part of the alert's sentence. */
  readonly says: string;
  readonly quiet: () => Sight[];
}

const NOON_MS = MONDAY_MS + 12 * HOUR_MS;

/** As many records, so many seconds apart. */
function several(
  count: number,
  everySeconds: number,
  shape: (index: number) => Shape,
  fromMs = NOON_MS,
): AuditRecord[] {
  return Array.from({ length: count }, (_, index) => accessAt(fromMs + index * everySeconds * SECOND_MS, shape(index)));
}

function login(outcome: 'success' | 'failure', account = 'dora', ip = '203.0.113.66'): Shape {
  const event = { action: 'login', category: ['authentication'], type: ['start'], outcome };
  const shared = { event, source: { ip }, related: { user: [account], ip: [ip] } };
  if (outcome === 'success') return { ...shared, user: { id: account } };
  return { ...shared, user: undefined, audit: { actor: { type: 'anonymous', attribution: 'none', claimed: account } } };
}

function patient(number: number, user = 'alice', more: Shape = {}): Shape {
  const target = { type: 'endpoint', id: `patients/${number}`, name: 'clinic GET /patients/{id}' };
  return { user: { id: user }, ...more, audit: { target, ...more.audit } };
}

function refused(target: string, user = 'carl'): Shape {
  return {
    user: { id: user },
    event: { outcome: 'failure', type: ['access', 'denied'] },
    audit: { decision: 'deny', target: { type: 'endpoint', id: target, name: 'clinic GET /x' } },
  };
}

function news(action: PipelineAction, of: string): Sight {
  return subjectOfNews({ action, of, reason: 'it does not answer' }, 'default', NOON_MS);
}

/** A day of ordinary load, so that a baseline has something to compare with: one access every 12 seconds. */
function ordinary(shape: (index: number) => Shape, days = 1.2, everySeconds = 12): AuditRecord[] {
  const count = Math.floor((days * DAY_MS) / (everySeconds * SECOND_MS));
  return several(count, everySeconds, shape, NOON_MS - days * DAY_MS);
}

const fast = (index: number): Shape => ({
  event: { duration: (20 + (index % 7)) * 1e6 },
  audit: { target: { type: 'endpoint', id: 'orders', name: 'shop GET /orders' } },
});
const failing =
  (isFailing: boolean) =>
  (index: number): Shape => ({
    ...fast(index),
    event: { outcome: isFailing || index % 97 === 0 ? 'failure' : 'success' },
  });
const tool = (name: string, agent = 'triage'): Shape => ({
  gen_ai: { tool: { name }, agent: { name: agent } },
  audit: { entry: false },
});
const from = (country: string, user = 'alice'): Shape => ({
  user: { id: user },
  source: { ip: '198.51.100.7', geo: { country_iso_code: country } },
});
const outOfBand: Shape = {
  user: { id: 'dba' },
  source: { ip: '10.0.0.9' },
  audit: { entry: true, join: { state: 'out_of_band' } },
};
const exhausted = (state: 'exhausted' | 'high'): Shape => ({
  event: { outcome: 'failure' },
  audit: {
    pressure: { state, metric: 'db.client.connection.count', value: 1, limit: 1, ratio: 1, metrics: [] },
  },
});
const checked = (count: number, granted = true): Shape => ({
  audit: {
    checks: [{ permission: 'patient:read', rule: 'role_permissions', granted }],
    db: { count, duration: 1e9 },
    target: { type: 'endpoint', id: 'ward/3', name: 'clinic GET /ward/{id}' },
  },
});

const CASES: readonly Case[] = [
  {
    rule: 'repeated-failed-logins',
    fires: () => several(6, 10, () => login('failure')),
    says: '6 failed logins as dora within 5 min, last from 203.0.113.66',
    quiet: () => [
      ...several(4, 10, () => login('failure')),
      ...several(30, 3, (index) => login('failure', `user-${index}`)),
      ...several(20, 10, () => login('success')),
    ],
  },
  {
    rule: 'failed-logins-many-accounts',
    fires: () => several(12, 20, (index) => login('failure', `user-${index}`)),
    says: 'accounts from 203.0.113.66 within 30 min',
    quiet: () => [
      ...several(40, 20, (index) => login('failure', `user-${index % 9}`)),
      ...several(40, 20, (index) => login('failure', `user-${index}`, `203.0.113.${index}`)),
    ],
  },
  {
    rule: 'login-after-failures',
    fires: () => [...several(5, 10, () => login('failure')), accessAt(NOON_MS + HOUR_MS / 6, login('success'))],
    says: 'dora logged in after repeated failures',
    quiet: () => [
      ...several(3, 10, () => login('failure')),
      accessAt(NOON_MS + 60 * SECOND_MS, login('success')),
      ...several(6, 10, () => login('failure', 'emil')),
      accessAt(NOON_MS + 3 * HOUR_MS, login('success', 'emil')),
    ],
  },
  {
    rule: 'unknown-account',
    fires: () => [
      accessAt(NOON_MS - 2 * DAY_MS, { user: { id: 'alice' } }),
      accessAt(NOON_MS, { user: { id: 'mallory' } }),
    ],
    says: 'First access of mallory within 30 days',
    // Everybody is new in the first day, and whoever was there before is not.
    quiet: () => [
      ...several(20, 60, (index) => ({ user: { id: `user-${index}` } }), NOON_MS - 2 * DAY_MS),
      ...several(20, 60, (index) => ({ user: { id: `user-${index}` } })),
      accessAt(NOON_MS, { user: { id: 'nightly' }, audit: { actor: { type: 'service' } } }),
    ],
  },
  {
    rule: 'first-access-sensitive',
    fires: () => [
      accessAt(NOON_MS - 2 * DAY_MS, patient(7)),
      accessAt(NOON_MS, {
        user: { id: 'alice' },
        audit: { target: { type: 'endpoint', id: 'payroll/3', name: 'clinic GET /payroll/{id}' } },
      }),
    ],
    says: 'alice reached clinic GET /payroll/{id} for the first time',
    quiet: () => [
      ...several(5, 60, (index) => patient(index), NOON_MS - 2 * DAY_MS),
      ...several(20, 60, (index) => patient(index + 100)),
      accessAt(NOON_MS, {
        user: { id: 'alice' },
        audit: { target: { type: 'endpoint', id: 'menu', name: 'GET /menu' } },
      }),
    ],
  },
  {
    rule: 'mass-read',
    fires: () => several(60, 5, (index) => patient(index)),
    says: 'alice read 60 sensitive targets within 10 min',
    quiet: () => [
      ...several(200, 5, (index) => patient(index % 40)),
      ...several(49, 5, (index) => patient(index, 'bob')),
      ...several(200, 5, (index) => patient(index, `user-${index % 10}`)),
    ],
  },
  {
    rule: 'mass-read-rows',
    fires: () => several(3, 60, () => patient(7, 'alice', { audit: { rows: 5_000, entry: false } })),
    says: 'alice got 5000 rows of patients/7',
    quiet: () => [
      accessAt(NOON_MS, patient(7, 'alice', { audit: { rows: 999 } })),
      accessAt(NOON_MS, { audit: { rows: 100_000, target: { type: 'table', id: 'menu' } } }),
    ],
  },
  {
    rule: 'outside-working-hours',
    fires: () => several(3, 60, () => patient(7), MONDAY_MS + 3 * HOUR_MS),
    says: 'Outside of working hours: alice',
    quiet: () => [
      ...several(10, 60, () => patient(7)),
      accessAt(MONDAY_MS + 3 * HOUR_MS, patient(7, 'nightly', { audit: { actor: { type: 'service' } } })),
    ],
  },
  {
    rule: 'access-without-identity',
    fires: () =>
      several(3, 60, () =>
        patient(7, 'x', { user: undefined, audit: { actor: { type: 'anonymous', attribution: 'none' } } }),
      ),
    says: 'Nobody is named for an access to clinic GET /patients/{id}',
    quiet: () => [
      accessAt(NOON_MS, patient(7)),
      accessAt(NOON_MS, { user: undefined, audit: { actor: { type: 'anonymous', attribution: 'none' } } }),
    ],
  },
  {
    rule: 'out-of-band',
    fires: () => several(3, 60, () => outOfBand),
    says: 'dba went around the application',
    quiet: () => several(3, 60, () => ({ ...outOfBand, audit: { join: { state: 'complete' } } })),
  },
  {
    rule: 'permission-change',
    fires: () => [
      accessAt(NOON_MS, {
        user: { id: 'root' },
        event: { action: 'GRANT', category: ['database'], type: ['change'] },
        audit: { entry: false, target: { type: 'table', id: 'postgresql/clinic.patients' } },
      }),
    ],
    says: 'root changed permissions',
    quiet: () => [
      accessAt(NOON_MS, { event: { action: 'GRANT', outcome: 'failure' } }),
      accessAt(NOON_MS, { event: { action: 'GetUser', category: ['iam'], type: ['info'] } }),
    ],
  },
  {
    rule: 'new-country',
    fires: () => [...several(3, 60, () => from('DE')), accessAt(NOON_MS + HOUR_MS, from('BR'))],
    says: 'alice acts from BR for the first time within 90 days (198.51.100.7)',
    quiet: () => [...several(20, 60, () => from('DE')), ...several(20, 60, (index) => from('FR', `user-${index}`))],
  },
  {
    rule: 'agent-new-tool',
    fires: () => [
      ...several(3, 60, () => tool('search')),
      ...several(3, 60, () => tool('delete_patient'), NOON_MS + HOUR_MS),
    ],
    says: 'triage used the tool delete_patient for the first time',
    quiet: () => [...several(9, 60, () => tool('search')), accessAt(NOON_MS, tool('summarise', 'scribe'))],
  },
  {
    rule: 'refusals-many-targets',
    fires: () => several(12, 10, (index) => refused(`patients/${index}`)),
    says: 'carl was refused at 12 targets within 10 min',
    quiet: () => [
      ...several(50, 5, (index) => refused(`patients/${index % 5}`)),
      ...several(50, 5, (index) => refused(`patients/${index}`, `user-${index}`)),
    ],
  },
  {
    rule: 'refusals-spike',
    fires: () => [
      ...ordinary((index) => refused(`patients/${index}`, `user-${index % 500}`), 1.2, 120),
      ...several(100, 1, (index) => refused(`patients/${index}`, `user-${index}`)),
    ],
    says: 'shop refused',
    quiet: () => ordinary((index) => refused(`patients/${index}`, `user-${index % 500}`)),
  },
  {
    rule: 'latency-above-baseline',
    fires: () => [...ordinary(fast), ...several(40, 2, () => ({ ...fast(0), event: { duration: 900e6 } }))],
    says: 'shop GET /orders takes',
    quiet: () => [
      ...ordinary(fast),
      // One slow access is none of many.
      ...several(40, 2, (index) => ({ ...fast(index), event: { duration: index === 9 ? 5e9 : 25e6 } })),
    ],
  },
  {
    rule: 'errors-above-baseline',
    fires: () => [...ordinary(failing(false)), ...several(40, 2, failing(true))],
    says: 'of the accesses to shop GET /orders fail',
    quiet: () => [
      ...ordinary(failing(false)),
      ...several(40, 2, (index) => (index < 38 ? failing(false)(index + 1) : failing(true)(index))),
    ],
  },
  {
    rule: 'statements-after-role-check',
    fires: () => several(3, 60, () => checked(240)),
    says: 'clinic GET /ward/{id} asked its database 240 times behind a check (role_permissions)',
    quiet: () => [
      accessAt(NOON_MS, checked(20)),
      accessAt(NOON_MS, checked(500, false)),
      accessAt(NOON_MS, { audit: { db: { count: 500, duration: 1 } } }),
    ],
  },
  {
    rule: 'limit-behind-failures',
    fires: () => several(4, 20, () => exhausted('exhausted')),
    says: 'accesses of shop failed within 5 min while db.client.connection.count was at its limit',
    quiet: () => [
      ...several(2, 20, () => exhausted('exhausted')),
      ...several(9, 20, () => exhausted('high'), NOON_MS + HOUR_MS),
      ...several(9, 20, () => ({ ...exhausted('exhausted'), event: { outcome: 'success' } }), NOON_MS + HOUR_MS),
    ],
  },
  {
    rule: 'collection-gap',
    fires: () => [news('pipeline.coverage_gap', 'silent')],
    says: 'Evidence of spantrail is missing: it does not answer',
    quiet: () => [news('pipeline.store_failing', 'store')],
  },
  {
    rule: 'pipeline-failing',
    fires: () => [news('pipeline.store_failing', 'store')],
    says: 'spantrail: it does not answer',
    quiet: () => [news('pipeline.coverage_gap', 'silent')],
  },
];

const rules = await shippedRules();

function alertsOf(id: string, sights: readonly Sight[]) {
  return alertsAfter(engineWith(rules.filter((rule) => rule.id === id)), sights);
}

describe('the shipped rules', () => {
  it('have a case each, and are all on', () => {
    expect(CASES.map(({ rule }) => rule).sort()).toEqual(rules.map(({ id }) => id).sort());
    expect(rules.filter(({ enabled }) => !enabled)).toEqual([]);
  });

  it.each(CASES)('$rule raises one alert for what it is for', ({ rule, fires, says }) => {
    const alerts = alertsOf(rule, fires());
    expect(alerts.map(({ reason }) => reason)).toEqual([expect.stringContaining(says)]);
    if (!rule.includes('pipeline') && rule !== 'collection-gap') expect(alerts[0]?.records.length).toBeGreaterThan(0);
  });

  it.each(CASES)('$rule is quiet about what is near to it', ({ rule, quiet }) => {
    expect(alertsOf(rule, quiet()).map(({ reason }) => reason)).toEqual([]);
  });
});
