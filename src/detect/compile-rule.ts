import { createHash } from 'node:crypto';
import { type Field, findField } from '../core/fields.ts';
import type { Query } from '../query/ast.ts';
import { parseQuery } from '../query/parse.ts';
import { printQuery } from '../query/print.ts';
import { type Definitions, expandDefinitions } from './definitions.ts';
import { isTimezone, parseHours } from './hours.ts';
import type { Rule } from './rule.ts';
import type { RuleText } from './rule-schema.ts';
import { templateFields } from './template.ts';

export interface RuleMistake {
  readonly field: readonly string[];
  readonly message: string;
  /** Column of a query's own text, from 1. */
  readonly column?: number;
}

export interface RuleLimits {
  /** Matches that a rule may keep. */
  readonly entriesMax: number;
}

export type CompiledRule =
  | { readonly ok: true; readonly rule: Rule }
  | { readonly ok: false; readonly mistakes: readonly RuleMistake[] };

/** Nearly every record has its own value here: groups or values of them would grow for ever. */
const UNBOUNDED = new Set([
  ...['@timestamp', 'message', 'event.id', 'event.start', 'event.end', 'event.created', 'event.ingested'],
  ...['event.duration', 'trace.id', 'span.id', 'parent.id', 'transaction.id', 'messaging.message_id', 'url.full'],
  ...['url.query', 'source.port', 'error.stack_trace', 'audit.entry_id', 'audit.evidence.id', 'audit.checks.span_id'],
  ...['audit.checks.duration', 'audit.trace.duration', 'audit.trace.self_time', 'audit.path.span_id'],
  ...['audit.db.duration', 'audit.revised_at', 'audit.superseded_by', 'audit.error_origin.span_id'],
]);

/** Intervals of a baseline: an hour has whole ones, so that its values are of that hour. */
const INTERVAL_MS_MAX = 3_600_000;

/** Two moments: a query that means something else at each speaks of `now`. */
const ONE_MS = 1_000_000_000_000;
const OTHER_MS = 2_000_000_000_000;

/** What the schema cannot tell: queries, fields, times of the week, and what could not be bounded. */
export function compileRule(text: RuleText, place: string, definitions: Definitions, limits: RuleLimits): CompiledRule {
  const mistakes: RuleMistake[] = [];
  const check = new Checks(mistakes, definitions);
  const base = { ...baseOf(text, check), place };
  const rule = specificOf(text, base, check, limits);
  if (mistakes.length > 0) return { ok: false, mistakes };
  return { ok: true, rule: { ...rule, fingerprint: fingerprintOf(rule) } };
}

/** Mistakes in the queries of what is no rule yet for other reasons, so that all are told at once. */
export function queryMistakes(value: unknown, definitions: Definitions): readonly RuleMistake[] {
  const mistakes: RuleMistake[] = [];
  const check = new Checks(mistakes, definitions);
  const fields = typeof value === 'object' && value !== null ? Object.entries(value) : [];
  for (const [name, text] of fields) {
    if ((name === 'query' || name === 'then') && typeof text === 'string') check.query(name, text);
  }
  return mistakes;
}

class Checks {
  readonly #mistakes: RuleMistake[];
  readonly #definitions: Definitions;

  constructor(mistakes: RuleMistake[], definitions: Definitions) {
    this.#mistakes = mistakes;
    this.#definitions = definitions;
  }

  fail(field: string, message: string, column?: number): void {
    this.#mistakes.push({ field: field.split('.'), message, ...(column === undefined ? {} : { column }) });
  }

  query(field: string, text: string): Query {
    const nothing: Query = { kind: 'all' };
    const expanded = expandDefinitions(text, this.#definitions);
    if (!expanded.ok) {
      this.fail(field, expanded.message, expanded.column);
      return nothing;
    }
    const parsed = parseQuery(expanded.text, { nowMs: ONE_MS });
    if (!parsed.ok) {
      const { column, definition } = expanded.origin(parsed.column);
      this.fail(field, definition === undefined ? parsed.message : `in $${definition}: ${parsed.message}`, column);
      return nothing;
    }
    const later = parseQuery(expanded.text, { nowMs: OTHER_MS });
    if (later.ok && printQuery(later.query) !== printQuery(parsed.query)) {
      this.fail(field, 'a rule looks at each access when it comes: it cannot speak of now');
    }
    return parsed.query;
  }

  fields(place: string, names: readonly string[] | undefined, isCapped = false): Field[] {
    return (names ?? []).flatMap((name) => {
      const field = findField(name);
      if (field === undefined) this.fail(place, `there is no field "${name}"`);
      else if (UNBOUNDED.has(name) && !isCapped) {
        const words = `nearly every access has its own ${name}, so what is kept would grow for ever`;
        this.fail(place, place === 'group_by' ? `${words}; take another field, or set groups_max` : words);
      }
      return field === undefined ? [] : [field];
    });
  }
}

type Base = Omit<Rule, 'fingerprint' | 'type'>;

function baseOf(text: RuleText, check: Checks): Omit<Base, 'place'> {
  if (text.type === 'new_terms' && text.groups_max !== undefined) check.fail('groups_max', 'is not for new_terms');
  return {
    ...{ id: text.id, name: text.name, severity: text.severity, source: text.source, enabled: text.enabled },
    ...(text.description === undefined ? {} : { description: text.description }),
    queryText: text.query,
    query: check.query('query', text.query),
    inner: text.inner || text.source === 'pipeline',
    ...hoursOf(text, check),
    groupBy: check.fields('group_by', text.group_by, text.groups_max !== undefined),
    ...(text.groups_max === undefined ? {} : { groupsMax: text.groups_max }),
    reason: text.reason ?? defaultReason(text),
    suppressMs: text.suppress ?? defaultSuppressMs(text),
    ...{ tags: text.tags, references: text.references, notify: text.notify },
  };
}

function hoursOf({ hours }: RuleText, check: Checks): Pick<Base, 'hours'> {
  if (hours === undefined) return {};
  const inside = parseHours(hours.outside);
  if (inside === undefined) {
    check.fail('hours.outside', 'must be days and times such as "Mon-Fri 07:00-19:00", several with commas');
  }
  if (!isTimezone(hours.timezone)) {
    check.fail('hours.timezone', `there is no time zone "${hours.timezone}"; it looks like Europe/Berlin`);
  }
  return { hours: { text: hours.outside, timezone: hours.timezone, inside: inside ?? [] } };
}

/** One alert as long as a group goes on, unless the rule says otherwise. */
function defaultSuppressMs(text: RuleText): number {
  if (text.type === 'threshold') return text.window ?? 0;
  return text.type === 'baseline' ? text.baseline.interval : 0;
}

function defaultReason(text: RuleText): string {
  switch (text.type) {
    case 'query':
      return '${message}';
    case 'threshold':
      return `${text.name}: \${value} within \${window} (\${group})`;
    case 'new_terms':
      return `${text.name}: \${term} was never seen before (\${group})`;
    case 'baseline':
      return `${text.name}: \${value} instead of at most \${threshold} (\${group})`;
  }
}

function specificOf(text: RuleText, base: Base, check: Checks, limits: RuleLimits): Rule {
  const shared = { ...base, fingerprint: '' };
  for (const name of templateFields(base.reason)) check.fields('reason', [name], true);
  switch (text.type) {
    case 'query':
      return { ...shared, type: 'query' };
    case 'threshold':
      return { ...shared, type: 'threshold', ...thresholdOf(text, check, limits) };
    case 'new_terms': {
      const { fields, history: historyMs, warm_up: warmUpMs } = text.new_terms;
      if (historyMs === undefined) {
        check.fail('new_terms.history', 'is missing: without it every value ever seen would be kept for ever');
      }
      return {
        ...{ ...shared, type: 'new_terms', warmUpMs, historyMs: historyMs ?? 0 },
        fields: check.fields('new_terms.fields', fields),
      };
    }
    case 'baseline': {
      const { of, interval: intervalMs, deviations, min_volume: volumeMin, warm_up: warmUpMs } = text.baseline;
      if (intervalMs > INTERVAL_MS_MAX || INTERVAL_MS_MAX % intervalMs !== 0) {
        check.fail('baseline.interval', 'must divide an hour: 1m, 5m, 10m, 15m, 1h …');
      }
      if (of === 'failures' && base.source === 'pipeline')
        check.fail('baseline.of', 'what the pipeline tells has no failures');
      return { ...shared, type: 'baseline', of, intervalMs, deviations, volumeMin, warmUpMs };
    }
  }
}

function thresholdOf(text: RuleText & { type: 'threshold' }, check: Checks, { entriesMax }: RuleLimits) {
  const { window: windowMs, threshold, then } = text;
  if (windowMs === undefined) {
    check.fail(
      'window',
      'is missing: without it every match would have to be kept for ever; say for example window: 5m',
    );
  }
  const { value, cardinality } = threshold;
  if ((value === undefined) === (cardinality === undefined)) {
    check.fail('threshold', 'needs either a value (matches) or cardinality (distinct values of a field), not both');
  }
  const wanted = value ?? cardinality?.value ?? 1;
  const place = value === undefined ? 'threshold.cardinality.value' : 'threshold.value';
  if (wanted > entriesMax) {
    check.fail(place, `is more than the ${entriesMax} matches that a rule keeps (detect.entriesMax)`);
  }
  if (text.suppress !== undefined && text.suppress < 1000) {
    check.fail('suppress', 'must be at least 1s: each further match would be an alert of its own');
  }
  const [distinct] =
    cardinality === undefined ? [] : check.fields('threshold.cardinality.field', [cardinality.field], true);
  return {
    windowMs: windowMs ?? 0,
    threshold: { value: wanted, ...(distinct === undefined ? {} : { distinct }) },
    ...(then === undefined ? {} : { followedBy: check.query('then', then) }),
  };
}

/** Of all that a rule's state means something for: names, severity and routing may change without losing it. */
function fingerprintOf(rule: Rule): string {
  const { type, source, inner, hours, suppressMs } = rule;
  const specific = (() => {
    switch (rule.type) {
      case 'query':
        return [];
      case 'threshold': {
        const { windowMs, threshold, followedBy } = rule;
        return [windowMs, threshold.value, threshold.distinct?.name, followedBy && printQuery(followedBy)];
      }
      case 'new_terms':
        return [rule.fields.map(({ name }) => name), rule.historyMs];
      case 'baseline':
        return [rule.of, rule.intervalMs];
    }
  })();
  const parts = [type, source, inner, hours?.text, hours?.timezone, suppressMs, printQuery(rule.query)];
  const all = [...parts, rule.groupBy.map(({ name }) => name), ...specific, templateFields(rule.reason)];
  return createHash('sha256').update(JSON.stringify(all)).digest('hex').slice(0, 16);
}
