import { createHash } from 'node:crypto';
import type { Alert, Severity } from '../core/alert.ts';
import { formatTimestamp, msToNs, nsToMs, parseTimestamp } from '../core/clock.ts';
import type { Subject } from '../detect/subject.ts';

/** What rules with `source: pipeline` look at: `event.action` of the documents. docs/rules.md lists them. */
export type PipelineAction =
  | 'pipeline.store_failing'
  | 'pipeline.refusing'
  | 'pipeline.disk_short'
  | 'pipeline.quarantined'
  | 'pipeline.coverage_gap'
  | 'pipeline.rules_broken'
  | 'pipeline.tls_reload_failed'
  | 'pipeline.notice_dead';

export interface PipelineNews {
  readonly action: PipelineAction;
  /** One sentence of what is wrong. */
  readonly reason: string;
  /** What it is about: a service, a channel, a stage. */
  readonly of: string;
  readonly service?: string;
  readonly namespace?: string;
  /** RFC 3339; now when absent. What is told again with the same time is the same. */
  readonly at?: string;
}

/** News in the shape of a record, so that the same query language speaks of them. They are stored nowhere. */
export function subjectOfNews(news: PipelineNews, ownNamespace: string, nowMs: number): Subject {
  const { action, reason, of, service = 'spantrail', namespace = ownNamespace } = news;
  const at = news.at ?? formatTimestamp(msToNs(nowMs));
  const timeMs = nsToMs(parseTimestamp(at) ?? msToNs(nowMs));
  const id = createHash('sha256')
    .update(JSON.stringify([action, of, service, namespace, at]))
    .digest('hex');
  return {
    ...{ id: id.slice(0, 32), trace: '', namespace, timeMs, ingestedMs: nowMs, isRevision: false },
    source: 'pipeline',
    document: {
      '@timestamp': at,
      message: `${service}: ${reason}`,
      data_stream: { namespace },
      event: {
        id: id.slice(0, 32),
        action,
        kind: 'event',
        category: ['process'],
        outcome: 'failure',
        reason,
        start: at,
      },
      service: { name: service },
      audit: { entry: true, target: { type: 'pipeline', id: of, name: of }, decision: 'none' },
    },
  };
}

export interface OwnAlert {
  readonly id: string;
  readonly name: string;
  readonly reason: string;
  /** What it is about: the same again is the same alert. */
  readonly of: string;
  readonly namespace: string;
  readonly nowMs: number;
}

const OWN_SEVERITY: Severity = 'high';

/** An alert of the rules themselves: no rule can be trusted to raise it. */
export function ownAlert({ id, name, reason, of, namespace, nowMs }: OwnAlert): Alert {
  const at = formatTimestamp(msToNs(nowMs));
  return {
    id: createHash('sha256')
      .update(JSON.stringify([id, namespace, of]))
      .digest('hex')
      .slice(0, 32),
    rule: { id, name, type: 'query', severity: OWN_SEVERITY, tags: ['pipeline'] },
    ...{ namespace, state: 'open', reason, group: {}, firstAt: at, lastAt: at, raisedAt: at },
    ...{ count: 1, records: [], traces: [], history: [] },
  };
}
