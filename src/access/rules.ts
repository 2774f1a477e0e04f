import { byKeys } from '../core/attribute-table.ts';
import { AppError } from '../core/errors.ts';
import type { Attributes, LogRecord, Span } from '../core/evidence.ts';
import { asText, clip, NAMES, remember, spellingsOf, words } from './attributes.ts';
import { BAGGAGE_KEYS } from './baggage.ts';
import { ENGINE_KEYS } from './check-engines.ts';
import {
  type CheckRule,
  type CompiledHost,
  type CompiledRoleTable,
  compileHosts,
  compileRoleTables,
  NO_CHECK_SETTINGS,
} from './check-settings.ts';
import type { Draft } from './draft.ts';
import { anyGlob } from './glob.ts';
import { GRAPHQL_KEYS } from './graphql.ts';
import { locationOf } from './http.ts';
import { type HeaderRules, headerSource, identityOfAttributes, identityOfHeaders } from './identity.ts';
import type { EventMappings } from './mapped-event.ts';
import { compileCandidates } from './mappings/candidates.ts';
import { compileMappings, keysOfMappings, presetMappings } from './mappings/compile.ts';
import { compileOrigin, type OriginRules } from './origin.ts';
import { compilePurposes, NO_PURPOSES, type PurposeSources } from './purpose.ts';
import { foldPath } from './route.ts';
import { SESSION_KEYS } from './session.ts';
import type { AccessSettings, AddRule, AuthenticationRule, RenameRule, RuleMatch } from './settings.ts';

/** A piece of evidence with what was made of it so far. */
export interface Subject {
  readonly evidence: Span | LogRecord;
  readonly span?: Span;
  readonly draft?: Draft;
  readonly headers: HeaderRules;
  /** Bits of the attributes that rules look at and that are there, its resource's included. */
  readonly present: number;
}

type Condition = (subject: Subject) => boolean;

export interface Compiled<Rule extends RuleMatch> {
  readonly rule: Rule;
  /** Bits of attributes that must be there: most evidence lacks them, so that the conditions need not be looked at. */
  readonly gate: number;
  /** The same of spans that nothing was made of yet: what rules ask of it then stands in attributes. */
  readonly bareGate: number;
  readonly conditions: readonly Condition[];
}

/** Settings made ready for use, and the attribute keys that the decoder must keep. */
export interface AccessRules {
  readonly include: readonly Compiled<RuleMatch>[];
  readonly exclude: readonly Compiled<RuleMatch>[];
  readonly rename: readonly Compiled<RenameRule>[];
  readonly add: readonly Compiled<AddRule>[];
  readonly authentication: readonly Compiled<AuthenticationRule>[];
  readonly identityHeaders: HeaderRules;
  readonly baggageUsers: readonly string[];
  readonly sessionAttributes: readonly string[];
  readonly checks: {
    readonly rules: readonly Compiled<CheckRule>[];
    readonly roleTables: readonly CompiledRoleTable[];
    readonly hosts: readonly CompiledHost[];
  };
  readonly purposes: PurposeSources;
  readonly origin?: OriginRules;
  readonly presenceIn: (evidence: Span | LogRecord) => number;
  readonly isAccessEvent: (eventName: string) => boolean;
  readonly isSecret: (parameter: string) => boolean;
  readonly mappings: EventMappings;
  readonly keys: readonly string[];
  /** Keys that are wanted of log records besides. */
  readonly logKeys: readonly string[];
}

export const CATEGORIES: ReadonlySet<string> = new Set(
  words(
    'api authentication configuration database driver email file host iam intrusion_detection library malware network ' +
      'package process registry session threat vulnerability web',
  ),
);
export const TYPES: ReadonlySet<string> = new Set(
  words(
    'access admin allowed change connection creation deletion denied device end error group indicator info installation ' +
      'protocol start user',
  ),
);
const SPAN_KINDS = ['unspecified', 'internal', 'server', 'client', 'producer', 'consumer'];
const TEMPLATE = /\$\{([^{}]*)\}/g;

/**
 * What rules can ask for besides attributes, as text, empty for none, or a list. `event.*`, `audit.target.*` and `url.path` are
 * what the built-in recognition made of the evidence; where it made nothing, undefined has attributes of that name looked for.
 * `event.name` is the name of a log record's event, `url.path.folded` the path with ids as `{id}`, `audit.actor.id` whom the
 * evidence itself names, in attributes or captured headers.
 */
const PSEUDO_VALUES: ReadonlyMap<string, (subject: Subject) => string | readonly string[] | undefined> = new Map(
  Object.entries<(subject: Subject) => string | readonly string[] | undefined>({
    'span.name': ({ span }) => span?.name ?? '',
    'span.kind': ({ span }) => (span && SPAN_KINDS[span.kind]) ?? '',
    'scope.name': ({ evidence }) => evidence.scope.name,
    'log.event_name': ({ evidence, span }) => (span ? '' : (eventNameOf(evidence) ?? '')),
    'event.name': ({ evidence }) => eventNameOf(evidence) ?? '',
    'url.path': (subject) => pathOf(subject),
    'url.path.folded': (subject) => foldPath(pathOf(subject)),
    'event.action': ({ draft }) => draft?.action,
    'event.outcome': ({ draft }) => draft?.outcome,
    'event.category': ({ evidence, draft }) =>
      draft && [...draft.category, ...attributeValues(evidence.attributes, 'event.category')],
    'audit.actor.id': ({ evidence: { attributes, note }, headers }) =>
      (identityOfAttributes(attributes) ?? identityOfHeaders(attributes, headers, note)?.identity)?.id ?? '',
    'audit.target.type': ({ draft }) => draft?.target.type,
    'audit.target.id': ({ draft }) => draft?.target.id,
    'audit.target.name': ({ draft }) => draft && (draft.target.name ?? ''),
  }),
);

/** Those of them that come from attributes of their names, or not at all, where nothing was made of a span yet. */
const OF_DRAFT: ReadonlySet<string> = new Set(
  words('event.action event.outcome event.category event.name audit.target.type audit.target.id audit.target.name'),
);

function pathOf({ span, draft }: Subject): string {
  return draft?.sections.url?.path ?? (span && locationOf(span).path) ?? '';
}

function refuse(list: string, name: string, problem: string): never {
  throw new AppError('config', `access rule ${list}/${name || '(without a name)'}: ${problem}`);
}

function compileMatch<Rule extends RuleMatch>(list: string, rule: Rule, bits: Map<string, number>): Compiled<Rule> {
  const entries = Object.entries(rule.when);
  if (entries.length === 0) refuse(list, rule.name, '`when` is empty and would fit everything; name at least one key.');
  let gate = 0;
  let bareGate = 0;
  const conditions = entries.map(([key, given]) => {
    const patterns = typeof given === 'string' ? [given] : given;
    if (key === '' || patterns.length === 0) refuse(list, rule.name, `\`when\` has no pattern for "${key}".`);
    checkKey(list, rule.name, key);
    const isWanted = patterns.some((pattern) => !pattern.startsWith('!'));
    if (isWanted && !PSEUDO_VALUES.has(key)) gate |= bitOf(key, bits);
    if (isWanted && (!PSEUDO_VALUES.has(key) || OF_DRAFT.has(key))) bareGate |= bitOf(key, bits);
    return compileCondition(key, patterns);
  });
  return { rule, gate, bareGate, conditions };
}

/** The bit of a key, the same for all its spellings. With more keys than bits some share one, which only opens gates. */
function bitOf(key: string, bits: Map<string, number>): number {
  const names = spellingsOf(key);
  const bit = bits.get(key) ?? 1 << (bits.size % 31);
  for (const name of names) bits.set(name, bit);
  return bit;
}

const presenceIn = byKeys((keys, bits: ReadonlyMap<string, number>): number => {
  let present = 0;
  for (const name of keys) present |= bits.get(name) ?? 0;
  return present;
});

function compileCondition(key: string, patterns: readonly string[]): Condition {
  const wanted = patterns.filter((pattern) => !pattern.startsWith('!'));
  const unwanted = patterns.filter((pattern) => pattern.startsWith('!')).map((pattern) => pattern.slice(1));
  const isWanted = holdsAny(key, anyGlob(wanted));
  const isUnwanted = holdsAny(key, anyGlob(unwanted));
  if (unwanted.length === 0) return isWanted;
  return (subject) => (wanted.length === 0 || isWanted(subject)) && !isUnwanted(subject);
}

/** Does a value of the key fit? Of several spellings the first that is there counts, the evidence's own before its resource's. */
function holdsAny(key: string, fits: (text: string) => boolean): Condition {
  const names = spellingsOf(key);
  const fitsText = (text: string | undefined): boolean => text !== undefined && text !== '' && fits(text);
  const inAttributes = (attributes: Attributes): boolean | undefined => {
    for (const name of names) {
      const value = attributes.get(name);
      if (value === undefined) continue;
      return Array.isArray(value) ? value.some((item) => fitsText(asText(item))) : fitsText(asText(value));
    }
    return undefined;
  };
  const read = PSEUDO_VALUES.get(key);
  return (subject) => {
    const values = read?.(subject);
    if (values !== undefined) return typeof values === 'string' ? fitsText(values) : values.some(fitsText);
    const { attributes, resource } = subject.evidence;
    return inAttributes(attributes) ?? inAttributes(resource.attributes) ?? false;
  };
}

function checkKey(list: string, name: string, key: string): void {
  if (/^(?:span|log|scope)\./.test(key) && !PSEUDO_VALUES.has(key)) {
    refuse(
      list,
      name,
      `there is no key "${key}"; attributes aside, rules know ${[...PSEUDO_VALUES.keys()].join(', ')}.`,
    );
  }
}

function compileList<Rule extends RuleMatch>(
  list: string,
  rules: readonly Rule[],
  bits: Map<string, number>,
): Compiled<Rule>[] {
  const names = new Set<string>();
  return rules.map((rule) => {
    if (rule.name.trim() === '') refuse(list, rule.name, 'every rule needs a name.');
    if (names.has(rule.name)) refuse(list, rule.name, 'two rules have this name.');
    names.add(rule.name);
    return compileMatch(list, rule, bits);
  });
}

function checkTemplates(list: string, rule: RenameRule | AddRule): string[] {
  const texts = [rule.action, rule.target?.type, rule.target?.id, rule.target?.name].filter(
    (text) => text !== undefined,
  );
  if (texts.length === 0) refuse(list, rule.name, 'it changes nothing; give an action or a target.');
  if (texts.some((text) => text.trim() === '')) refuse(list, rule.name, 'action and target must not be empty.');
  return templateKeys(list, rule.name, texts);
}

/** The keys that templates ask for. */
function templateKeys(list: string, name: string, texts: readonly (string | undefined)[]): string[] {
  const keys = texts.flatMap((text) => [...(text ?? '').matchAll(TEMPLATE)].map(([, key = '']) => key));
  for (const key of keys) {
    if (key === '') refuse(list, name, '`${}` names no attribute.');
    checkKey(list, name, key);
  }
  return keys;
}

function checkEcs(rule: AddRule): void {
  const unknown = [
    ...(rule.category ?? []).filter((value) => !CATEGORIES.has(value)),
    ...(rule.type ?? []).filter((value) => !TYPES.has(value)),
  ];
  if (unknown.length > 0) refuse('add', rule.name, `"${unknown[0]}" is no ECS event category or type.`);
}

/** Checks settings and makes them ready for use. Throws AppError('config') that names the rule and what is wrong with it. */
export function compileRules(settings: AccessSettings): AccessRules {
  const bits = new Map<string, number>();
  const include = compileList('include', settings.include, bits);
  const exclude = compileList('exclude', settings.exclude, bits);
  const rename = compileList('rename', settings.rename, bits);
  const add = compileList('add', settings.add, bits);
  const authentication = compileList('authentication', settings.authentication, bits);
  for (const { rule } of add) checkEcs(rule);
  const { rules: checkRules, roleTables, hosts } = settings.checks ?? NO_CHECK_SETTINGS;
  const checks = {
    rules: compileList('checks', checkRules, bits),
    roleTables: compileRoleTables(roleTables),
    hosts: compileHosts(hosts),
  };
  const purposes = compilePurposes(settings.purpose ?? NO_PURPOSES);
  const templated = [
    ...settings.sessionAttributes,
    ...settings.rename.flatMap((rule) => checkTemplates('rename', rule)),
    ...settings.add.flatMap((rule) => checkTemplates('add', rule)),
    ...checkRules.flatMap(({ name, permission, target, granted, rule, engine }) =>
      templateKeys('checks', name, [permission, target, granted, rule, engine]),
    ),
    ...roleTables.flatMap(({ permission, target }, index) =>
      templateKeys('checks.roleTables', `${index}`, [permission, target]),
    ),
  ];
  const mentioned = [...include, ...exclude, ...rename, ...add, ...authentication, ...checks.rules].flatMap(
    ({ rule }) => Object.keys(rule.when),
  );
  const origin = settings.origin && compileOrigin(settings.origin);
  const isSecret = anyGlob(settings.secretParameters);
  const { mappings = [], presets = [] } = settings;
  const lists = { own: compileMappings(mappings), presets: presetMappings(presets) };
  const isAccessEvent = remember(anyGlob(settings.accessEvents));
  const headers = { sources: settings.identityHeaders.map(headerSource), claims: settings.claims };
  return {
    include,
    exclude,
    rename,
    add,
    authentication,
    identityHeaders: headers,
    baggageUsers: settings.baggageUsers,
    sessionAttributes: settings.sessionAttributes,
    checks,
    purposes,
    ...(origin && { origin }),
    presenceIn: ({ attributes, resource }) => presenceIn(resource.attributes, bits) | presenceIn(attributes, bits),
    isAccessEvent,
    isSecret: remember((parameter) => isSecret(parameter.toLowerCase())),
    mappings: { ...lists, candidatesFor: compileCandidates(lists), isAccessEvent },
    keys: keysOf(
      [...mentioned, ...templated, ...ENGINE_KEYS, ...GRAPHQL_KEYS, ...purposes.keys, ...(origin?.keys ?? [])],
      headers,
    ),
    logKeys: keysOfMappings([...mappings, ...presets]),
  };
}

/** Attribute keys in every spelling: what recognition and attribution read, and what rules ask for. */
function keysOf(asked: readonly string[], { sources }: HeaderRules): string[] {
  const attributes = asked.filter((key) => !PSEUDO_VALUES.has(key)).flatMap(spellingsOf);
  const read = Object.values(NAMES).flat();
  const ofHeaders = sources.flatMap(({ keys }) => keys);
  return [...new Set([...read, 'audit.*', ...BAGGAGE_KEYS, ...SESSION_KEYS, ...ofHeaders, ...attributes])];
}

function attributeValues(attributes: Attributes, key: string): string[] {
  for (const name of spellingsOf(key)) {
    const value = attributes.get(name);
    if (value === undefined) continue;
    const texts = (Array.isArray(value) ? value : [value]).map((item) => asText(item));
    return texts.filter((text) => text !== undefined);
  }
  return [];
}

/** The name of a log record's event, or the one that a span states. */
export function eventNameOf(evidence: Span | LogRecord): string | undefined {
  const field = 'eventName' in evidence ? evidence.eventName.trim() : '';
  if (field !== '' || !evidence.attributes.has('event.name')) return field || undefined;
  return attributeValues(evidence.attributes, 'event.name')[0];
}

function valueIn(subject: Subject, key: string): string | undefined {
  const values = PSEUDO_VALUES.get(key)?.(subject);
  if (values !== undefined) return (typeof values === 'string' ? values : values.find(Boolean)) || undefined;
  const { attributes, resource } = subject.evidence;
  return attributeValues(attributes, key)[0] ?? attributeValues(resource.attributes, key)[0];
}

/** The first rule that the subject fits. */
export function findRule<Rule extends RuleMatch>(rules: readonly Compiled<Rule>[], subject: Subject): Rule | undefined {
  for (const compiled of rules) if (fitsRule(compiled, subject)) return compiled.rule;
  return undefined;
}

export function fitsRule({ gate, bareGate, conditions }: Compiled<RuleMatch>, subject: Subject): boolean {
  const needed = subject.draft === undefined && subject.span !== undefined ? bareGate : gate;
  if ((subject.present & needed) !== needed) return false;
  for (const fits of conditions) if (!fits(subject)) return false;
  return true;
}

/** The text with `${key}` replaced by the subject's value of that key; undefined when one of them has no value. */
export function fillTemplate(template: string, subject: Subject): string | undefined {
  let isWhole = true;
  const text = template.replace(TEMPLATE, (_, key: string) => {
    const value = valueIn(subject, key);
    isWhole &&= value !== undefined;
    return value ?? '';
  });
  return isWhole ? clip(text) : undefined;
}
