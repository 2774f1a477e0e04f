import { z } from 'zod';
import { type Alert, type AlertState, SEVERITIES, type Severity } from '../core/alert.ts';
import type { AuditRecord } from '../core/record.ts';
import type { Route } from './route.ts';

/** Of alerts and notices: parameters, answers and routes. */

const STATES = ['open', 'acknowledged', 'closed'] as const satisfies readonly AlertState[];
const ALERTS_DEFAULT = 50;
const ALERTS_MAX = 1000;
const NOTE_CHARS_MAX = 2000;

const list = <T extends string>(values: readonly [T, ...T[]]) =>
  z
    .string()
    .transform((text) => text.split(',').map((one) => one.trim()))
    .pipe(z.array(z.enum(values)))
    .optional();

const time = z.string().optional();

const selection = {
  state: list(STATES).describe('open, acknowledged, closed; several with commas'),
  severity: list(SEVERITIES).describe('low, medium, high, critical; several with commas'),
  rule: z.string().optional().describe('Only alerts of the rule with this id'),
  namespace: z.string().optional().describe('Only this namespace'),
  group: z.string().optional().describe('Only this group: `key` of alerts/groups'),
  from: time.describe('With accesses since: RFC 3339, or back from now like -15m, -2h, -7d'),
  to: time.describe('With accesses before this, written like `from`'),
  record: z.string().optional().describe('Only alerts that rest on the record with this id'),
  trace: z.string().optional().describe('Only alerts that rest on this trace'),
};

const limit = z.coerce.number().int().min(1).max(ALERTS_MAX).default(ALERTS_DEFAULT);

export const alertsQuery = z.strictObject({
  ...selection,
  limit,
  cursor: z.string().optional().describe('`next` of the page before'),
});

export const alertGroupsQuery = z.strictObject({ ...selection, limit });

export const alertStateQuery = z.strictObject({
  state: z.enum(STATES).describe('The new state'),
  note: z.string().trim().min(1).max(NOTE_CHARS_MAX).optional().describe('Why; kept in the history'),
});

/** Notices of one request at most: their ids fit an address. */
export const NOTICE_IDS_MAX = 100;

const noticeIds = z
  .string()
  .regex(/^[0-9a-f]{16}(,[0-9a-f]{16})*$/, 'must be ids of 16 hex digits, separated by commas')
  .transform((text) => [...new Set(text.split(','))])
  .refine((ids) => ids.length <= NOTICE_IDS_MAX, `must be at most ${NOTICE_IDS_MAX} ids`)
  .describe(`Ids of notices, separated by commas, at most ${NOTICE_IDS_MAX}`);

export const noticesQuery = z.strictObject({
  state: z.enum(['waiting', 'dead', 'all']).default('all').describe('What waits, or what was given up'),
  channel: z.string().optional().describe('Only of this channel'),
  limit,
});

export const noticeIdsQuery = z.strictObject({ ids: noticeIds });

export const noticeTestQuery = z.strictObject({ channel: z.string().describe('Name of the channel') });

export interface AlertsAnswer {
  readonly alerts: readonly Alert[];
  readonly next?: string;
}

export interface AlertGroupsAnswer {
  /** Alerts of one rule and group together, the one with the newest first. */
  readonly groups: readonly {
    readonly key: string;
    readonly alerts: number;
    readonly open: number;
    /** Accesses of all of them. */
    readonly count: number;
    readonly newest: Alert;
  }[];
}

/** An alert that rests on a record; it stands beside the record, not in it. */
export interface AlertMark {
  readonly id: string;
  readonly rule: string;
  readonly name: string;
  readonly severity: Severity;
  readonly state: AlertState;
  readonly reason: string;
  /** Of those that were asked for, the ones that it rests on. */
  readonly records: readonly string[];
}

/** A record, and what rests on it. */
export type MarkedRecord = AuditRecord & { readonly alerts?: readonly AlertMark[] };

export interface NoticeAnswer {
  readonly id: string;
  /** What receivers know it by. */
  readonly key: string;
  readonly channel: string;
  readonly change: 'raised' | 'acknowledged' | 'closed';
  readonly state: 'waiting' | 'dead';
  readonly alert: string;
  readonly rule: string;
  readonly severity: Severity;
  /** The alert's sentence. */
  readonly said: string;
  readonly created: string;
  /** Attempts that failed. */
  readonly tries: number;
  /** Not before this. */
  readonly next?: string;
  /** Why the last attempt failed. */
  readonly reason?: string;
}

export interface NoticesAnswer {
  readonly notices: readonly NoticeAnswer[];
  readonly waiting: number;
  readonly dead: number;
}

/** The ids that there were. */
export interface NoticeIdsAnswer {
  readonly ids: readonly string[];
}

export interface NoticeTestAnswer {
  readonly delivered: boolean;
  /** What the receiver said, or why it did not get it. */
  readonly text: string;
}

const target = { alerts: 'alerts', alert: 'alert', notices: 'notices' } as const;

export const ALERT_ROUTES: readonly Route[] = [
  {
    path: '/api/v1/alerts',
    summary: 'What rules found, the last raised first',
    query: alertsQuery,
    answers: 'json',
    needs: 'read',
    record: { action: 'search', target: target.alerts },
  },
  {
    path: '/api/v1/alerts/groups',
    summary: 'How often which rule found whom: alerts of one rule and group together',
    query: alertGroupsQuery,
    answers: 'json',
    needs: 'read',
    record: { action: 'count', target: target.alerts },
  },
  {
    path: '/api/v1/alerts/{id}',
    summary: 'One alert with its evidence and history',
    answers: 'json',
    needs: 'read',
    record: { action: 'view', target: target.alert },
  },
  {
    method: 'POST',
    path: '/api/v1/alerts/{id}/state',
    summary: 'Acknowledges, closes or opens an alert again, with a note',
    query: alertStateQuery,
    answers: 'json',
    needs: 'operate',
    record: { action: 'change_state', target: target.alert },
  },
  {
    path: '/api/v1/notices',
    summary: 'Notices of alerts that wait, or were given up',
    query: noticesQuery,
    answers: 'json',
    needs: 'operate',
    record: { action: 'list', target: target.notices },
  },
  {
    method: 'POST',
    path: '/api/v1/notices/retry',
    summary: 'Tries notices again, now',
    query: noticeIdsQuery,
    answers: 'json',
    needs: 'operate',
    record: { action: 'retry', target: target.notices },
  },
  {
    method: 'DELETE',
    path: '/api/v1/notices',
    summary: 'Gives notices up',
    query: noticeIdsQuery,
    answers: 'json',
    needs: 'operate',
    record: { action: 'drop', target: target.notices },
  },
  {
    method: 'POST',
    path: '/api/v1/notices/test',
    summary: 'Sends a made-up alert to a channel, now',
    query: noticeTestQuery,
    answers: 'json',
    needs: 'operate',
    record: { action: 'test', target: target.notices },
  },
];
