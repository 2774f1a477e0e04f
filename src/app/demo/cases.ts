import type { AuditRecord } from '../../core/record.ts';

/** What the day must have left behind: a query, and what one of its records must say. */
export interface ExpectedCase {
  readonly title: string;
  readonly query: string;
  readonly inner?: true;
  /** Shown in full after the day. */
  readonly shown?: true;
  /** How many records must fit the query; 1 when left out. */
  readonly countMin?: number;
  /** Suggested to the user, in these words. */
  readonly question?: string;
  readonly holds: (record: AuditRecord) => boolean;
}

/** What the shipped rules must have found, once each. */
export const EXPECTED_ALERTS: readonly { readonly rule: string; readonly title: string }[] = [
  { rule: 'repeated-failed-logins', title: 'a burst of failed logins' },
  { rule: 'new-country', title: 'an access from a new country' },
  { rule: 'mass-read', title: 'a mass read' },
  { rule: 'out-of-band', title: 'a statement around the application' },
  { rule: 'latency-above-baseline', title: 'a latency spike' },
];

const SECOND_NS = 1_000_000_000;
const isVerified = (record: AuditRecord) => record.audit.actor.verified;
const isWhole = (record: AuditRecord) => record.event.duration > 0 && (record.audit.path?.length ?? 0) > 1;

export const EXPECTED: readonly ExpectedCase[] = [
  {
    title: 'allowed: a nurse reads a patient',
    query: 'user.id: alice and audit.target.id: patients/7 and event.action: GET',
    shown: true,
    holds: (record) => record.event.outcome === 'success' && isWhole(record) && isNurse(record) && isVerified(record),
  },
  {
    title: 'refused: the database does not let a clerk do what a nurse may, SQLSTATE 42501',
    query: 'user.id: carl and audit.decision: deny',
    question: 'What was carl refused, and by whom?',
    shown: true,
    countMin: 2,
    holds: (record) => isWhole(record) && /permission denied.*42501/.test(record.event.reason ?? ''),
  },
  {
    title: 'failed: the laboratory does not answer a doctor',
    query: 'user.id: dora and audit.target.id: patients/12 and event.outcome: failure',
    shown: true,
    holds: (record) => isWhole(record) && record.audit.error_origin?.service === 'records',
  },
  {
    title: 'slow: one statement takes more than a second',
    query: 'user.id: dora and event.duration >= 1s and event.outcome: success',
    shown: true,
    holds: (record) => isWhole(record) && (record.audit.db?.duration ?? 0) >= SECOND_NS,
  },
  {
    title: 'guessed passwords count as attempts on the account, not as its owner',
    query: 'audit.actor.claimed: dora',
    question: 'Who tried to get into the account of dora, and from where?',
    countMin: 6,
    holds: (record) => record.user === undefined && !isVerified(record) && record.source?.ip === '203.0.113.66',
  },
  {
    title: 'statements are found by the person and the patient of the request above them',
    query: 'user.id: alice and audit.entry_target: patients/7',
    question: 'What did alice do with patient 7, down to the statements?',
    inner: true,
    holds: (record) => !record.audit.entry && record.db?.operation === 'UPDATE',
  },
  {
    title: 'what the gateway does by itself is told in its own name',
    query: 'audit.actor.type: service and user.id: gateway',
    holds: (record) => record.audit.actor.attribution === 'service',
  },
];

function isNurse(record: AuditRecord): boolean {
  return record.user?.roles?.includes('nurse') === true;
}
