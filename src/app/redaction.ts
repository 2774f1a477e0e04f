import { NAMES, textOf } from '../access/attributes.ts';
import { redactAddresses, redactErrorText } from '../access/error-text.ts';
import { compileRules } from '../access/rules.ts';
import { DEFAULT_ACCESS_SETTINGS } from '../access/settings.ts';
import type { Settings } from '../config/schema.ts';
import type { Span } from '../core/evidence.ts';
import type { Counters } from '../core/metrics.ts';
import type { AuditRecord } from '../core/record.ts';
import { redactName } from '../enrich/redact.ts';
import { compileRedactors, createRecordRedaction, type RedactSettings, redactText } from '../enrich/redact-record.ts';

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

/** Does redaction leave a record as it is? */
export function createCleanCheck(settings: Pick<Settings, 'redact'>): (record: AuditRecord) => boolean {
  let found = 0;
  const redact = createRecordRedaction(redactSettings(settings), (_, more) => {
    found += more;
  });
  return (record) => {
    found = 0;
    redact({ ...record });
    return found === 0;
  };
}

/** Spans as they may be shown: names and errors without secrets, and without values that a database quotes. */
export function createSpanRedaction(settings: Pick<Settings, 'redact'>): (span: Span) => Span {
  const redactors = compileRedactors(redactSettings(settings));
  const { isSecret } = compileRules(DEFAULT_ACCESS_SETTINGS);
  const plain = (text: string) => redactText(text, redactors, () => undefined);
  return (span) => {
    const message = redactErrorText(span.statusMessage, textOf(span.attributes, NAMES.dbSystem));
    const statusMessage = plain(redactAddresses(message, isSecret));
    return { ...span, name: plain(redactName(span, isSecret).name), statusMessage };
  };
}
