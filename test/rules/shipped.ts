import { loadRules } from '../../src/app/rule-files.ts';
import { settingsSchema } from '../../src/config/schema.ts';
import type { Alert } from '../../src/core/alert.ts';
import { formatTimestamp, msToNs } from '../../src/core/clock.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import { Engine } from '../../src/detect/engine.ts';
import type { Rule } from '../../src/detect/rule.ts';
import { describeProblem } from '../../src/detect/rule-file.ts';
import { type Subject, subjectOf } from '../../src/detect/subject.ts';
import { makeRecord, type Overrides } from '../fixtures/records.ts';

/** The rules in deploy/rules, at work as in serve with its default settings. */

/** A Monday. */
export const MONDAY_MS = Date.UTC(2026, 10, 23);
export const SECOND_MS = 1_000;
export const HOUR_MS = 3_600_000;
export const DAY_MS = 24 * HOUR_MS;

const { detect } = settingsSchema.parse({});

export async function shippedRules(): Promise<readonly Rule[]> {
  const { rules, problems } = await loadRules(detect);
  if (problems.length > 0) throw new Error(problems.map(describeProblem).join('\n'));
  return rules;
}

export function engineWith(rules: readonly Rule[]): Engine {
  const { latenessMs, groupsMax, entriesMax, termsMax } = detect;
  return new Engine(rules, {
    limits: { latenessMs, groupsMax, entriesMax, termsMax },
    onFailure: (rule, reason) => {
      throw new Error(`${rule.id}: ${reason}`);
    },
  });
}

let made = 0;

/** A record at this moment. */
export function accessAt(timeMs: number, overrides: Overrides<AuditRecord> = {}): AuditRecord {
  const time = formatTimestamp(msToNs(timeMs));
  const id = (++made).toString(16).padStart(32, '0');
  const { event = {}, ...others } = overrides;
  return makeRecord({
    '@timestamp': time,
    ...others,
    event: { id, end: time, created: time, ingested: time, ...event },
    trace: { id },
  });
}

/** Shows records, or what the pipeline tells; the last word on each alert, by id. */
export function alertsAfter(engine: Engine, sights: Iterable<AuditRecord | Subject>): Alert[] {
  const alerts = new Map<string, Alert>();
  for (const sight of sights) {
    engine.observe('document' in sight ? sight : subjectOf(sight));
    engine.takeChanges();
    for (const alert of engine.alerts(MONDAY_MS)) alerts.set(alert.id, alert);
    engine.forgetAlerts();
  }
  return [...alerts.values()];
}
