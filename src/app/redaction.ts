import type { Settings } from '../config/schema.ts';
import type { Counters } from '../core/metrics.ts';
import type { AuditRecord } from '../core/record.ts';
import { createRecordRedaction, type RedactSettings } from '../enrich/redact-record.ts';

/** The settings without keys whose value is undefined. */
export function redactSettings({ redact }: Pick<Settings, 'redact'>): RedactSettings {
  const patterns = redact.patterns.map(({ name, pattern, replacement }) =>
    replacement === undefined ? { name, pattern } : { name, pattern, replacement },
  );
  return { ...redact, patterns };
}

/** Takes out of records what the settings say, and counts it by rule. Throws AppError('config') that names what is wrong. */
export function createRedaction(settings: Pick<Settings, 'redact'>, counters: Counters): (record: AuditRecord) => void {
  return createRecordRedaction(redactSettings(settings), (rule, found) => counters.add('redacted', found, { rule }));
}
