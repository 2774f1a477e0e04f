import type { Alert } from '../../src/core/alert.ts';
import { formatTimestamp, msToNs } from '../../src/core/clock.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import { Engine } from '../../src/detect/engine.ts';
import type { Rule } from '../../src/detect/rule.ts';
import { describeProblem, parseRuleFile } from '../../src/detect/rule-file.ts';
import { subjectOf } from '../../src/detect/subject.ts';
import type { TrackerLimits } from '../../src/detect/tracker.ts';

export const NOON_MS = Date.UTC(2026, 10, 23, 12);

export interface Short {
  readonly id?: string;
  /** Seconds after noon of a Monday. */
  readonly at: number;
  readonly user?: string;
  readonly roles?: string[];
  readonly action?: string;
  readonly outcome?: 'success' | 'failure';
  readonly decision?: 'allow' | 'deny';
  readonly target?: string;
  readonly ip?: string;
  readonly country?: string;
  readonly durationMs?: number;
  readonly namespace?: string;
  readonly entry?: boolean;
  readonly revision?: number;
  readonly supersededBy?: string;
  /** Seconds after noon when it came; otherwise right then. */
  readonly ingestedAt?: number;
}

let made = 0;

/** A record of few words. */
export function recordOf(short: Short): AuditRecord {
  const { id = `r${++made}`, at, user = 'alice', action = 'GET', outcome = 'success', target = 'patients/7' } = short;
  const time = formatTimestamp(msToNs(NOON_MS) + BigInt(Math.round(at * 1e9)));
  const ingested = formatTimestamp(msToNs(NOON_MS) + BigInt(Math.round((short.ingestedAt ?? at) * 1e9)));
  return {
    '@timestamp': time,
    message: `${user} did ${action} on ${target}`,
    data_stream: { namespace: short.namespace ?? 'default' },
    event: {
      ...{ id, action, outcome, category: ['web'], type: ['access'], kind: 'event' },
      ...{ start: time, end: time, created: time, ingested, duration: (short.durationMs ?? 5) * 1e6 },
    },
    user: { id: user, ...(short.roles && { roles: short.roles }) },
    source: { ip: short.ip ?? '10.0.0.7', ...(short.country && { geo: { country_iso_code: short.country } }) },
    service: { name: 'records' },
    trace: { id: `t-${id}` },
    audit: {
      ...{ schema_version: 1, entry: short.entry ?? true, decision: short.decision ?? 'none', why: { source: 'none' } },
      actor: { type: 'user', attribution: 'header', verified: false },
      target: { type: 'endpoint', id: target },
      join: { state: 'complete', spans: 1, missing_parents: 0, orphans: 0, reason: 'complete', late: false },
      revision: short.revision ?? 1,
      ...(short.supersededBy && { superseded_by: short.supersededBy }),
      evidence: [],
    },
  };
}

export const LIMITS: TrackerLimits = { latenessMs: 60_000, groupsMax: 1000, entriesMax: 10_000, termsMax: 1000 };

export function rulesOf(yaml: string, definitions: Readonly<Record<string, string>> = {}): readonly Rule[] {
  const { rules, problems } = parseRuleFile('test.yaml', yaml, { definitions, limits: { entriesMax: 10_000 } });
  if (problems.length > 0) throw new Error(problems.map(describeProblem).join('\n'));
  return rules;
}

export function engineOf(rules: readonly Rule[] | string, limits: Partial<TrackerLimits> = {}): Engine {
  return new Engine(typeof rules === 'string' ? rulesOf(rules) : rules, {
    limits: { ...LIMITS, ...limits },
    onFailure: (rule, reason) => {
      throw new Error(`${rule.id}: ${reason}`);
    },
  });
}

/** Shows the records one after the other; the last word on each alert, by id. */
export function alertsAfter(engine: Engine, shorts: readonly (Short | AuditRecord)[]): Alert[] {
  const alerts = new Map<string, Alert>();
  for (const short of shorts) {
    engine.observe(subjectOf('event' in short ? short : recordOf(short)));
    for (const alert of engine.alerts(NOON_MS)) alerts.set(alert.id, alert);
    engine.forgetAlerts();
  }
  return [...alerts.values()];
}
