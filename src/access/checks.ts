import { byKeys } from '../core/attribute-table.ts';
import type { LogRecord, Span } from '../core/evidence.ts';
import { compact, NAMES, textOf } from './attributes.ts';
import { ENGINE_CHECK_KEYS, engineCheck } from './check-engines.ts';
import type { CheckRule } from './check-settings.ts';
import { type AccessRules, fillTemplate, findRule, type Subject } from './rules.ts';
import { readStatement } from './statement.ts';

/** What one piece of evidence says of an authorisation check, before its trace is consulted. */
export interface CheckDraft {
  readonly engine: string;
  readonly permission?: string;
  readonly target?: string;
  readonly rule?: string;
  /** Absent when the evidence does not say how it ended: then what followed tells. */
  readonly granted?: boolean;
  /** Why it was not granted, in the engine's own words. */
  readonly reason?: string;
  /** Nanoseconds, where the evidence states them itself. */
  readonly duration?: number;
  /** It asks whether the request that it belongs to may go on, so that permission and target are that request's. */
  readonly ofRequest?: true;
}

const ALLOWED = /^(?:true|yes|1|ok|2\d\d|(?:allow|grant|permit|pass)(?:ed|ted)?)$/i;
const REFUSED = /^(?:false|no|0|401|403|den(?:y|ied)|refused?|reject(?:ed)?|forbid(?:den)?|block(?:ed)?|fail(?:ed)?)$/i;

/** Yes or no as people and engines write it; undefined for neither. */
export function readGranted(text: string | undefined): boolean | undefined {
  if (text === undefined) return undefined;
  return ALLOWED.test(text) ? true : REFUSED.test(text) ? false : undefined;
}

/** Attributes that state a check outright, on spans and log records. */
const STATED = {
  permission: ['audit.check.permission'],
  target: ['audit.check.target'],
  granted: ['audit.check.granted'],
  rule: ['audit.check.rule'],
  reason: ['audit.check.reason'],
  engine: ['audit.check.engine'],
  duration: ['audit.check.duration'],
};

const CHECK_KEYS: ReadonlySet<string> = new Set([
  ...[STATED.permission, STATED.granted, STATED.rule].flat(),
  ...ENGINE_CHECK_KEYS,
]);

/** Nothing but a rule or a table of the settings makes a check of what has none of these. */
const mayCheck = byKeys((keys) => keys.some((key) => CHECK_KEYS.has(key)));

/**
 * What a span or log record says of an authorisation check: in `audit.check.*`, by a rule of the settings, by what is known of policy
 * engines, or as a statement on a table of roles. Undefined for all else, and for senders without trust. The attributes of a log
 * record hold the fields of its body already. Pure.
 */
export function recogniseCheck(evidence: Span | LogRecord, rules: AccessRules): CheckDraft | undefined {
  const { attributes, note } = evidence;
  if (!note.trusted || attributes.size === 0) return undefined;
  const { rules: own, hosts, roleTables } = rules.checks;
  if (own.length + roleTables.length === 0 && !mayCheck(attributes)) return undefined;
  const isSpan = 'kind' in evidence;
  const stated = statedCheck(evidence);
  if (stated !== undefined) return stated;
  const subject = own.length + roleTables.length === 0 ? undefined : subjectOf(evidence, rules);
  const rule = subject && findRule(own, subject);
  if (subject !== undefined && rule !== undefined) return ruledCheck(rule, subject);
  if (!isSpan) return undefined;
  return engineCheck(evidence, hosts) ?? (subject && readOfRoles(evidence, subject, rules));
}

function subjectOf(evidence: Span | LogRecord, rules: AccessRules): Subject {
  return {
    evidence,
    ...('kind' in evidence && { span: evidence }),
    headers: rules.identityHeaders,
    present: rules.presenceIn(evidence),
  };
}

function statedCheck({ attributes }: Span | LogRecord): CheckDraft | undefined {
  const granted = readGranted(textOf(attributes, STATED.granted));
  const permission = textOf(attributes, STATED.permission);
  const rule = textOf(attributes, STATED.rule);
  if (granted === undefined && permission === undefined && rule === undefined) return undefined;
  const duration = Number(textOf(attributes, STATED.duration) ?? Number.NaN);
  return compact({
    engine: textOf(attributes, STATED.engine) ?? 'application',
    permission,
    target: textOf(attributes, STATED.target),
    rule,
    granted,
    reason: textOf(attributes, STATED.reason),
    duration: Number.isSafeInteger(duration) && duration >= 0 ? duration : undefined,
  });
}

function ruledCheck(rule: CheckRule, subject: Subject): CheckDraft {
  const fill = (template: string | undefined) => (template === undefined ? undefined : fillTemplate(template, subject));
  return compact({
    engine: fill(rule.engine) ?? 'rule',
    permission: fill(rule.permission),
    target: fill(rule.target),
    rule: rule.rule === undefined ? rule.name : fill(rule.rule),
    granted: readGranted(fill(rule.granted)),
  });
}

const READS = /^(?:select|find|get|hget|hgetall|smembers|sismember|query|scan|aggregate)$/i;
/** Tables behind the first one of a statement, whose literals are gone. */
const JOINED = /\b(?:from|join)\s+([\w$."`[\]]{1,200})/gi;

/** Which tables a statement reads, as `table`, and with the database or schema before it. */
function tablesRead(span: Span): ReadonlySet<string> | undefined {
  const system = textOf(span.attributes, NAMES.dbSystem);
  if (system === undefined) return undefined;
  const sent = textOf(span.attributes, NAMES.dbStatement);
  const statement = sent === undefined ? undefined : readStatement(sent, system);
  const operation = textOf(span.attributes, NAMES.dbOperation) ?? statement?.operation;
  if (operation !== undefined && !READS.test(operation)) return undefined;
  const namespace = textOf(span.attributes, NAMES.dbNamespace)?.split('|')[0];
  const stated = textOf(span.attributes, NAMES.dbCollection) ?? statement?.table;
  const tables = [...(stated === undefined ? [] : [stated])];
  for (const [, table = ''] of statement?.text.matchAll(JOINED) ?? []) tables.push(table);
  const names = new Set<string>();
  for (const table of tables) {
    const plain = table.replaceAll(/["`[\]]/g, '').toLowerCase();
    names.add(plain);
    names.add(plain.replace(/^.*\./, ''));
    if (namespace !== undefined) names.add(`${namespace.toLowerCase()}.${plain}`);
  }
  return names;
}

function readOfRoles(span: Span, subject: Subject, { checks }: AccessRules): CheckDraft | undefined {
  if (checks.roleTables.length === 0) return undefined;
  const read = tablesRead(span);
  if (read === undefined) return undefined;
  for (const { fits, permission, target } of checks.roleTables) {
    const table = [...read].find(fits);
    if (table === undefined) continue;
    const fill = (template: string | undefined) =>
      template === undefined ? undefined : fillTemplate(template, subject);
    return compact({
      engine: 'role_table',
      permission: fill(permission),
      target: fill(target),
      rule: table,
      ofRequest: true as const,
    });
  }
  return undefined;
}
