import type { AuditRecord } from '../../core/record.ts';

/** What the day must have left behind: a query of the user's kind, and what its newest record must say. */
export interface ExpectedCase {
  readonly title: string;
  readonly query: string;
  readonly inner?: true;
  /** Shown in full after the day. */
  readonly shown?: true;
  readonly countMin: number;
  readonly holds: (record: AuditRecord) => boolean;
}

const SECOND_NS = 1_000_000_000;
const isWhole = (record: AuditRecord) => record.event.duration > 0 && (record.audit.path?.length ?? 0) > 1;

export const EXPECTED: readonly ExpectedCase[] = [
  {
    title: 'allowed: a nurse reads a patient',
    query: 'user.id: alice and audit.target.id: patients/7 and event.action: GET',
    shown: true,
    countMin: 1,
    holds: (record) => record.event.outcome === 'success' && isWhole(record) && isNurse(record),
  },
  {
    title: 'refused: the database does not let a clerk read notes, SQLSTATE 42501',
    query: 'user.id: carl and audit.target.id: patients/7 and audit.decision: deny',
    shown: true,
    countMin: 2,
    holds: (record) => isWhole(record) && /permission denied.*42501/.test(record.event.reason ?? ''),
  },
  {
    title: 'failed: the laboratory does not answer a doctor',
    query: 'user.id: dora and audit.target.id: patients/12 and event.outcome: failure',
    shown: true,
    countMin: 1,
    holds: (record) => isWhole(record) && record.audit.error_origin?.service === 'records',
  },
  {
    title: 'slow: one statement takes more than a second',
    query: 'user.id: dora and event.duration >= 1s and event.outcome: success',
    shown: true,
    countMin: 1,
    holds: (record) => isWhole(record) && (record.audit.db?.duration ?? 0) >= SECOND_NS,
  },
  {
    title: 'guessed passwords count as attempts on the account, not as its owner',
    query: 'event.category: authentication and event.outcome: failure and audit.actor.claimed: dora',
    countMin: 6,
    holds: (record) => record.user === undefined && record.source?.ip === '203.0.113.66',
  },
  {
    title: 'statements are found by the person and the patient of the request above them',
    query: 'user.id: alice and audit.entry_target: patients/7 and db.operation: UPDATE',
    inner: true,
    countMin: 1,
    holds: (record) => record.audit.entry === false && record.db?.statement !== undefined,
  },
  {
    title: 'what the gateway does by itself is told in its own name',
    query: 'audit.actor.type: service and user.id: gateway',
    countMin: 1,
    holds: (record) => record.audit.actor.attribution === 'service',
  },
];

function isNurse(record: AuditRecord): boolean {
  return record.user?.roles?.includes('nurse') === true;
}

/** Three things to ask after the day. */
export const QUESTIONS: readonly { readonly question: string; readonly query: string; readonly flags: string }[] = [
  { question: 'Who was refused, and by what?', query: 'audit.decision: deny and user.id: *', flags: '' },
  {
    question: 'What did alice do with patient 7, down to the statements?',
    query: 'user.id: alice and audit.entry_target: patients/7',
    flags: ' --inner',
  },
  {
    question: 'Who tried to get into the account of dora, and from where?',
    query: 'audit.actor.claimed: dora',
    flags: '',
  },
];
