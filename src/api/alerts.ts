import type { FastifyInstance } from 'fastify';
import type { Alert, AlertState } from '../core/alert.ts';
import type { Clock } from '../core/clock.ts';
import { AppError } from '../core/errors.ts';
import type { AlertSelection, AlertStore } from '../store/port.ts';
import { principalOf } from './access.ts';
import {
  type AlertGroupsAnswer,
  type AlertMark,
  type AlertsAnswer,
  alertGroupsQuery,
  alertStateQuery,
  alertsQuery,
  type NoticeAnswer,
  type NoticeIdsAnswer,
  type NoticesAnswer,
  type NoticeTestAnswer,
  noticeIdsQuery,
  noticesQuery,
  noticeTestQuery,
} from './alert-contract.ts';
import { checkParameters, toRange } from './selection.ts';

export type { AlertMark, NoticeAnswer };

/** Alerts, what people do with them, and the notices about them. */
export interface AlertDesk extends Pick<AlertStore, 'search' | 'groups'> {
  show(id: string): Promise<Alert | undefined>;
  /** The alert as it is then. AppError `not_found` when there is none. */
  setState(id: string, state: AlertState, note: string | undefined, by: string): Promise<Alert>;
  /** Alerts that rest on one of these records, as far as they name it. None when that cannot be found out. */
  marks(records: readonly string[]): Promise<readonly AlertMark[]>;
  /** The oldest first. */
  notices(): readonly NoticeAnswer[];
  /** The ids that there were. */
  retryNotices(ids: readonly string[]): Promise<readonly string[]>;
  dropNotices(ids: readonly string[]): Promise<readonly string[]>;
  testChannel(
    name: string,
  ): Promise<
    | { readonly kind: 'delivered'; readonly answer: string }
    | { readonly kind: 'failed' | 'dead'; readonly reason: string }
  >;
}

/** Who did it, where nobody has to say who they are. */
const LOCAL = 'local';

export function addAlertRoutes(
  server: FastifyInstance,
  { alerts: desk, clock }: { readonly alerts: AlertDesk; readonly clock: Clock },
): void {
  server.get('/api/v1/alerts', (request): Promise<AlertsAnswer> => {
    const { limit, cursor, ...given } = checkParameters(alertsQuery, request.query);
    return desk.search(toAlertSelection(given, clock.nowMs()), limit, cursor);
  });

  server.get('/api/v1/alerts/groups', async (request): Promise<AlertGroupsAnswer> => {
    const { limit, ...given } = checkParameters(alertGroupsQuery, request.query);
    return { groups: await desk.groups(toAlertSelection(given, clock.nowMs()), limit) };
  });

  server.get('/api/v1/alerts/:id', async (request): Promise<Alert> => {
    const { id } = request.params as { id: string };
    const alert = await desk.show(id);
    if (!alert) throw new AppError('not_found', `no alert with id ${id}`);
    return alert;
  });

  server.post('/api/v1/alerts/:id/state', (request): Promise<Alert> => {
    const { id } = request.params as { id: string };
    const { state, note } = checkParameters(alertStateQuery, request.query);
    return desk.setState(id, state, note, principalOf(request)?.name ?? LOCAL);
  });

  server.get('/api/v1/notices', async (request): Promise<NoticesAnswer> => {
    const { state, channel, limit } = checkParameters(noticesQuery, request.query);
    const all = desk.notices();
    const dead = all.filter((notice) => notice.state === 'dead').length;
    const notices = all.filter(
      (notice) => (state === 'all' || notice.state === state) && (channel === undefined || notice.channel === channel),
    );
    return { notices: notices.slice(0, limit), waiting: all.length - dead, dead };
  });

  server.post('/api/v1/notices/retry', async (request): Promise<NoticeIdsAnswer> => {
    return { ids: await desk.retryNotices(checkParameters(noticeIdsQuery, request.query).ids) };
  });

  server.delete('/api/v1/notices', async (request): Promise<NoticeIdsAnswer> => {
    return { ids: await desk.dropNotices(checkParameters(noticeIdsQuery, request.query).ids) };
  });

  server.post('/api/v1/notices/test', async (request): Promise<NoticeTestAnswer> => {
    const { channel } = checkParameters(noticeTestQuery, request.query);
    const outcome = await desk.testChannel(channel);
    return outcome.kind === 'delivered'
      ? { delivered: true, text: outcome.answer }
      : { delivered: false, text: outcome.reason };
  });
}

function toAlertSelection(
  given: {
    readonly [K in 'rule' | 'namespace' | 'group' | 'from' | 'to' | 'record' | 'trace']?: string | undefined;
  } & {
    readonly state?: AlertSelection['states'] | undefined;
    readonly severity?: AlertSelection['severities'] | undefined;
  },
  nowMs: number,
): AlertSelection {
  const { state, severity, rule, namespace, group, record, trace } = given;
  return {
    ...toRange(given, nowMs),
    ...(state && { states: state }),
    ...(severity && { severities: severity }),
    ...(rule !== undefined && { rule }),
    ...(namespace !== undefined && { namespace }),
    ...(group !== undefined && { group }),
    ...(record !== undefined && { records: [record] }),
    ...(trace !== undefined && { traces: [trace.toLowerCase()] }),
  };
}
