import { AppError } from '../core/errors.ts';
import type { Attributes, LogRecord, Span } from '../core/evidence.ts';
import { asText, clip, NAMES, spellingsOf } from './attributes.ts';
import type { Draft } from './draft.ts';
import { fitsGlob, type Glob, globOf } from './glob.ts';
import { locationOf } from './http.ts';
import { type HeaderSources, headerKeys } from './identity.ts';
import {
  type AccessSettings,
  type AddRule,
  type AuthenticationRule,
  PSEUDO_KEYS,
  type RenameRule,
  type RuleMatch,
} from './settings.ts';

/** A piece of evidence with what was made of it so far. */
export interface Subject {
  readonly evidence: Span | LogRecord;
  readonly span?: Span;
  readonly draft?: Draft;
}

interface Condition {
  readonly key: string;
  /** The attributes to look at, in every spelling. */
  readonly names: readonly string[];
  readonly wanted: readonly Glob[];
  readonly unwanted: readonly Glob[];
}

export interface Compiled<Rule extends RuleMatch> {
  readonly rule: Rule;
  readonly conditions: readonly Condition[];
}

/** Settings made ready for use, and the attribute keys that the decoder must keep. */
export interface AccessRules {
  readonly include: readonly Compiled<RuleMatch>[];
  readonly exclude: readonly Compiled<RuleMatch>[];
  readonly rename: readonly Compiled<RenameRule>[];
  readonly add: readonly Compiled<AddRule>[];
  readonly authentication: readonly Compiled<AuthenticationRule>[];
  readonly identityHeaders: HeaderSources;
  readonly isAccessEvent: (eventName: string) => boolean;
  readonly isSecret: (parameter: string) => boolean;
  readonly keys: readonly string[];
}

export const CATEGORIES: ReadonlySet<string> = new Set(
  'api authentication configuration database driver email file host iam intrusion_detection library malware network package process registry session threat vulnerability web'.split(
    ' ',
  ),
);
export const TYPES: ReadonlySet<string> = new Set(
  'access admin allowed change connection creation deletion denied device end error group indicator info installation protocol start user'.split(
    ' ',
  ),
);
const PSEUDO: ReadonlySet<string> = new Set(PSEUDO_KEYS);
const SPAN_KINDS = ['unspecified', 'internal', 'server', 'client', 'producer', 'consumer'];
const TEMPLATE = /\$\{([^{}]*)\}/g;

function refuse(list: string, name: string, problem: string): never {
  throw new AppError('config', `access rule ${list}/${name || '(without a name)'}: ${problem}`);
}

function compileMatch<Rule extends RuleMatch>(list: string, rule: Rule): Compiled<Rule> {
  const entries = Object.entries(rule.when);
  if (entries.length === 0) refuse(list, rule.name, '`when` is empty and would fit everything; name at least one key.');
  const conditions = entries.map(([key, given]) => {
    const patterns = typeof given === 'string' ? [given] : given;
    if (key === '' || patterns.length === 0) refuse(list, rule.name, `\`when\` has no pattern for "${key}".`);
    checkKey(list, rule.name, key);
    const isNegative = (pattern: string) => pattern.startsWith('!');
    return {
      key,
      names: spellingsOf(key),
      wanted: patterns.filter((pattern) => !isNegative(pattern)).map(globOf),
      unwanted: patterns.filter(isNegative).map((pattern) => globOf(pattern.slice(1))),
    };
  });
  return { rule, conditions };
}

function checkKey(list: string, name: string, key: string): void {
  if (/^(?:span|log|scope)\./.test(key) && !PSEUDO.has(key)) {
    refuse(list, name, `there is no key "${key}"; attributes aside, rules know ${PSEUDO_KEYS.join(', ')}.`);
  }
}

function compileList<Rule extends RuleMatch>(list: string, rules: readonly Rule[]): Compiled<Rule>[] {
  const names = new Set<string>();
  return rules.map((rule) => {
    if (rule.name.trim() === '') refuse(list, rule.name, 'every rule needs a name.');
    if (names.has(rule.name)) refuse(list, rule.name, 'two rules have this name.');
    names.add(rule.name);
    return compileMatch(list, rule);
  });
}

function checkTemplates(list: string, rule: RenameRule | AddRule): string[] {
  const texts = [rule.action, rule.target?.type, rule.target?.id, rule.target?.name].filter(
    (text) => text !== undefined,
  );
  if (texts.length === 0) refuse(list, rule.name, 'it changes nothing; give an action or a target.');
  if (texts.some((text) => text.trim() === '')) refuse(list, rule.name, 'action and target must not be empty.');
  const keys = texts.flatMap((text) => [...text.matchAll(TEMPLATE)].map(([, key = '']) => key));
  for (const key of keys) {
    if (key === '') refuse(list, rule.name, '`${}` names no attribute.');
    checkKey(list, rule.name, key);
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
  const include = compileList('include', settings.include);
  const exclude = compileList('exclude', settings.exclude);
  const rename = compileList('rename', settings.rename);
  const add = compileList('add', settings.add);
  const authentication = compileList('authentication', settings.authentication);
  for (const { rule } of add) checkEcs(rule);
  const templated = [
    ...settings.rename.flatMap((rule) => checkTemplates('rename', rule)),
    ...settings.add.flatMap((rule) => checkTemplates('add', rule)),
  ];
  const mentioned = [...include, ...exclude, ...rename, ...add, ...authentication].flatMap(({ conditions }) =>
    conditions.map(({ key }) => key),
  );
  const headers = settings.identityHeaders.map(({ header, field }) => ({ field, keys: headerKeys(header) }));
  return {
    include,
    exclude,
    rename,
    add,
    authentication,
    identityHeaders: headers,
    isAccessEvent: anyFits(settings.accessEvents, (name) => name),
    isSecret: anyFits(settings.secretParameters, (name) => name.toLowerCase()),
    keys: keysOf([...mentioned, ...templated], headers),
  };
}

function anyFits(patterns: readonly string[], prepare: (text: string) => string): (text: string) => boolean {
  const globs = patterns.map(globOf);
  return (text) => globs.some((glob) => fitsGlob(glob, prepare(text)));
}

/** Attribute keys in every spelling: what recognition and attribution read, and what rules ask for. */
function keysOf(asked: readonly string[], headers: HeaderSources): string[] {
  const attributes = asked.filter((key) => !PSEUDO.has(key)).flatMap(spellingsOf);
  const read = Object.values(NAMES).flat();
  return [...new Set([...read, 'audit.*', ...headers.flatMap(({ keys }) => keys), ...attributes])];
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

function pseudoValues({ evidence, span, draft }: Subject, key: string): readonly (string | undefined)[] | undefined {
  switch (key) {
    case 'span.name':
      return [span?.name];
    case 'span.kind':
      return [span && SPAN_KINDS[span.kind]];
    case 'scope.name':
      return [evidence.scope.name];
    case 'log.event_name':
      return [span ? undefined : eventNameOf(evidence)];
    case 'event.name':
      return [eventNameOf(evidence)];
    case 'url.path':
      return [draft?.sections.url?.path ?? (span && locationOf(span).path)];
    case 'event.action':
      return draft && [draft.action];
    case 'event.outcome':
      return draft && [draft.outcome];
    case 'event.category':
      return draft && [...draft.category, ...attributeValues(evidence.attributes, key)];
    case 'audit.target.type':
      return draft && [draft.target.type];
    case 'audit.target.id':
      return draft && [draft.target.id];
    case 'audit.target.name':
      return draft && [draft.target.name];
    default:
      return undefined;
  }
}

/** The name of a log record's event, or the one that a span states. */
export function eventNameOf(evidence: Span | LogRecord): string | undefined {
  const field = 'eventName' in evidence ? evidence.eventName.trim() : '';
  return field !== '' ? field : attributeValues(evidence.attributes, 'event.name')[0];
}

function valuesOf(subject: Subject, key: string): readonly string[] {
  const pseudo = pseudoValues(subject, key);
  if (pseudo !== undefined) return pseudo.filter((value): value is string => value !== undefined && value !== '');
  const own = attributeValues(subject.evidence.attributes, key);
  return own.length > 0 ? own : attributeValues(subject.evidence.resource.attributes, key);
}

function fits({ key, names, wanted, unwanted }: Condition, subject: Subject): boolean {
  const values = PSEUDO.has(key) ? pseudoValues(subject, key) : undefined;
  const holds = (globs: readonly Glob[]): boolean => {
    if (globs.length === 0) return false;
    if (values !== undefined) return values.some((value) => fitsAny(globs, value));
    const { attributes, resource } = subject.evidence;
    return holdsAny(attributes, names, globs) ?? holdsAny(resource.attributes, names, globs) ?? false;
  };
  return !holds(unwanted) && (wanted.length === 0 || holds(wanted));
}

function fitsAny(globs: readonly Glob[], text: string | undefined): boolean {
  return text !== undefined && text !== '' && globs.some((glob) => fitsGlob(glob, text));
}

/** Does a value of the first attribute that is there fit? Undefined when none is there. */
function holdsAny(attributes: Attributes, names: readonly string[], globs: readonly Glob[]): boolean | undefined {
  for (const name of names) {
    const value = attributes.get(name);
    if (value === undefined) continue;
    return Array.isArray(value) ? value.some((item) => fitsAny(globs, asText(item))) : fitsAny(globs, asText(value));
  }
  return undefined;
}

/** The first rule that the subject fits. */
export function findRule<Rule extends RuleMatch>(rules: readonly Compiled<Rule>[], subject: Subject): Rule | undefined {
  return rules.find(({ conditions }) => conditions.every((condition) => fits(condition, subject)))?.rule;
}

/** The text with `${key}` replaced by the subject's value of that key; undefined when one of them has no value. */
export function fillTemplate(template: string, subject: Subject): string | undefined {
  let isWhole = true;
  const text = template.replace(TEMPLATE, (_, key: string) => {
    const [value] = valuesOf(subject, key);
    isWhole &&= value !== undefined;
    return value ?? '';
  });
  return isWhole ? clip(text) : undefined;
}
