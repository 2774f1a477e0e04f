import { AppError } from '../../core/errors.ts';
import type { AttributeValue, LogRecord } from '../../core/evidence.ts';
import { asText, clip } from '../attributes.ts';
import { anyGlob } from '../glob.ts';
import { compileParse, openWith, type Subject, subjectOf } from './document.ts';
import { EVENT_FIELDS, isEventField, nearestField } from './fields.ts';
import type { Extract, Fields, Mapping } from './mapping.ts';
import { compilePath, type Document } from './path.ts';
import { compilePattern, firstMatch } from './pattern.ts';
import { compileSource, type Read, type SourceContext } from './source.ts';

/** What a mapping made of a log record. */
export interface Mapped {
  /** The preset, else the mapping: `audit.evidence[].source`. */
  readonly source: string;
  readonly mapping: string;
  readonly fields: ReadonlyMap<string, AttributeValue>;
}

export interface CompiledMapping {
  readonly name: string;
  readonly source: string;
  /** What some field's name must begin with, or it is not worth a closer look; none where text is parsed otherwise than as JSON. */
  readonly gates: readonly string[];
  apply(subject: Subject): Mapped | undefined;
  /** Why it does not take a record, for a person; undefined when it does. */
  refusal(subject: Subject): string | undefined;
}

type Fits = (document: Document, log: LogRecord) => boolean;

interface Condition {
  readonly key: string;
  readonly patterns: readonly string[];
  readonly fits: Fits;
  readonly valuesOf: (document: Document, log: LogRecord) => readonly string[];
}

/** Which preset a sender says a record is for; mappings may ask for it, to be less strict with what is named. */
export const PRESET_KEY = 'spantrail.preset';

/** What `when` may ask for besides fields of the record. */
const PSEUDO_VALUES: Readonly<Record<string, (log: LogRecord) => string>> = {
  'log.event_name': (log) => log.eventName,
  'scope.name': (log) => log.scope.name,
};

/** Checks mappings and makes them ready for use. Throws AppError('config') that names the mapping, the place and what is wrong. */
export function compileMappings(mappings: readonly Mapping[]): readonly CompiledMapping[] {
  const names = new Set<string>();
  return mappings.map((mapping) => {
    const fail = (place: string, problem: string): never => {
      throw new AppError('config', `mapping ${mapping.name || '(without a name)'}, ${place}: ${problem}.`);
    };
    if (mapping.name.trim() === '') fail('name', 'every mapping needs a name');
    if (names.has(mapping.name)) fail('name', 'another mapping has this name');
    names.add(mapping.name);
    const known = compiled.get(mapping);
    if (known !== undefined) return known;
    const made = compileMapping(mapping, fail);
    compiled.set(mapping, made);
    return made;
  });
}

/**
 * The same for presets, each of which is known to be right: it is made ready when the first record comes that could fit. Most
 * instances never see a record of most of them.
 */
export function presetMappings(presets: readonly Mapping[]): readonly CompiledMapping[] {
  return presets.map((preset) => {
    const { name, preset: source = name } = preset;
    const made = () => compileMappings([preset])[0] as CompiledMapping;
    return {
      ...{ name, source, gates: gatesOf(preset) },
      apply: (subject) => made().apply(subject),
      refusal: (subject) => made().refusal(subject),
    };
  });
}

/** The presets are the same for all who ask: receivers, each worker's rules, checks of the settings. */
const compiled = new WeakMap<Mapping, CompiledMapping>();
const keysKnown = new WeakMap<Mapping, readonly string[]>();

function compileMapping(mapping: Mapping, fail: SourceContext['fail']): CompiledMapping {
  const { name, preset: source = name, parse } = mapping;
  if (Object.keys(mapping.when).length === 0)
    fail('when', 'it is empty and would fit everything; name at least one field');
  if (Object.keys(mapping.fields).length === 0) fail('fields', 'it gives no field a value');
  const open = guarded(() => compileParse(parse), 'parse', fail);
  const conditions = compileConditions(mapping.when, 'when', fail);
  checkReachable(mapping, fail);
  const context: SourceContext = {
    fail,
    nothing: new Set(mapping.nothing),
    condition: (when, place) => compileWhen(when, place, fail),
  };
  const extract = (mapping.extract ?? []).map((entry, index) => compileExtract(entry, `extract.${index}`, context));
  const fields = compileFields(mapping.fields, 'fields', context);
  const untraced = compileFields(mapping.untraced ?? {}, 'untraced', context);
  return {
    name,
    source,
    gates: gatesOf(mapping),
    apply: (subject) => {
      const { log } = subject;
      const opened = openWith(open, subject);
      if (opened === undefined || !conditions.every(({ fits }) => fits(opened, log))) return undefined;
      const document = { ...opened };
      for (const read of extract) Object.assign(document, read(document, log));
      const made = new Map<string, AttributeValue>();
      const reads = log.traceId === '' ? [...fields, ...untraced] : fields;
      for (const [field, read] of reads) {
        const value = read(document, log);
        if (value !== undefined && value !== '') made.set(field, value);
      }
      return { source, mapping: name, fields: made };
    },
    refusal: (subject) => {
      const opened = openWith(open, subject);
      if (opened === undefined) return `it has not the form that \`parse\` describes (${parse?.as ?? 'json'})`;
      const missed = conditions.find(({ fits }) => !fits(opened, subject.log));
      return missed && describeMiss(missed, missed.valuesOf(opened, subject.log));
    },
  };
}

function guarded<T>(compile: () => T, place: string, fail: SourceContext['fail']): T {
  try {
    return compile();
  } catch (cause) {
    return fail(place, cause instanceof Error ? cause.message : String(cause));
  }
}

function compileFields(fields: Fields, place: string, context: SourceContext): (readonly [string, Read])[] {
  return Object.entries(fields).map(([field, source]) => {
    if (!isEventField(field)) {
      context.fail(
        `${place}.${field}`,
        `an access event has no such field; did you mean "${nearestField(field)}"? docs/presets.md lists all ${EVENT_FIELDS.length}`,
      );
    }
    return [field, compileSource(source, `${place}.${field}`, context)];
  });
}

function compileExtract({ from, patterns }: Extract, place: string, context: SourceContext) {
  const read = compileSource(from, `${place}.from`, context);
  const compiled = patterns.map((pattern, index) =>
    guarded(() => compilePattern(pattern), `${place}.patterns.${index}`, context.fail),
  );
  if (!compiled.some(({ groups }) => groups.length > 0))
    context.fail(place, 'no pattern has a named group, (?<name>…)');
  return (document: Document, log: LogRecord): Document | undefined => {
    const value = read(document, log);
    const text = typeof value === 'string' ? value : asText(value);
    return text === undefined ? undefined : firstMatch(compiled, text);
  };
}

function describeMiss({ key, patterns }: Condition, values: readonly string[]): string {
  const asked = patterns.map((pattern) => JSON.stringify(pattern)).join(' or ');
  if (values.length === 0) return `it has no field "${key}", which \`when\` wants to fit ${asked}`;
  return `"${key}" is ${values.map((value) => JSON.stringify(clip(value, 60))).join(', ')}, which does not fit ${asked}`;
}

function compileWhen(when: Mapping['when'], place: string, fail: SourceContext['fail']): Fits {
  const conditions = compileConditions(when, place, fail);
  return (document, log) => conditions.every(({ fits }) => fits(document, log));
}

function compileConditions(when: Mapping['when'], place: string, fail: SourceContext['fail']): readonly Condition[] {
  return Object.entries(when).map(([key, given]): Condition => {
    const patterns = typeof given === 'string' ? [given] : given;
    if (key === '' || patterns.length === 0) fail(`${place}.${key}`, 'there is no pattern; * stands for any value');
    if (/^(?:span|log|scope)\./.test(key) && !(key in PSEUDO_VALUES) && key.split('.').length === 2) {
      fail(`${place}.${key}`, `fields aside, mappings know ${Object.keys(PSEUDO_VALUES).join(', ')}`);
    }
    const wanted = patterns.filter((pattern) => !pattern.startsWith('!'));
    const unwanted = patterns.filter((pattern) => pattern.startsWith('!')).map((pattern) => pattern.slice(1));
    const isWanted = anyGlob(wanted);
    const isUnwanted = anyGlob(unwanted);
    const valuesOf = compileValues(key);
    const fits: Fits = (document, log) => {
      const values = valuesOf(document, log);
      return (wanted.length === 0 || values.some(isWanted)) && !(unwanted.length > 0 && values.some(isUnwanted));
    };
    return { key, patterns, fits, valuesOf };
  });
}

/** The texts that a record has under a key; a structure counts as the text `{}`, so that `*` fits whatever is there. */
function compileValues(key: string): (document: Document, log: LogRecord) => readonly string[] {
  const pseudo = PSEUDO_VALUES[key];
  if (pseudo !== undefined) return (_, log) => [pseudo(log)].filter((text) => text !== '');
  const lookUp = compilePath(key);
  return (document, log) => {
    const value = lookUp(document) ?? log.resource.attributes.get(key);
    if (value === undefined) return [];
    const items = Array.isArray(value) ? value : [value];
    return items.flatMap((item) => (typeof item === 'object' ? ['{}'] : (asText(item) ?? [])));
  };
}

/** A mapping whose conditions ask for what its own pattern or columns never yield fits nothing. */
function checkReachable({ when, parse }: Mapping, fail: SourceContext['fail']): void {
  for (const [key, given] of Object.entries(when)) {
    const patterns = typeof given === 'string' ? [given] : given;
    const wanted = patterns.filter((pattern) => !pattern.startsWith('!'));
    const unwanted = patterns.filter((pattern) => pattern.startsWith('!')).map((pattern) => pattern.slice(1));
    if (wanted.length > 0 && wanted.every((pattern) => unwanted.includes(pattern) || unwanted.includes('*'))) {
      fail(`when.${key}`, 'what it asks for it refuses as well, so that it fits nothing');
    }
  }
  if (parse?.as === 'csv' && new Set(parse.columns).size < parse.columns.length) {
    fail('parse.columns', 'two columns have one name');
  }
}

/** The beginnings of the names that conditions ask for, as JSON writes them. */
function gatesOf({ when, parse }: Mapping): string[] {
  if (parse !== undefined && parse.as !== 'json') return [];
  return Object.entries(when)
    .filter(([key, given]) => !(key in PSEUDO_VALUES) && [given].flat().some((pattern) => !pattern.startsWith('!')))
    .map(([key]) => key.split('.')[0] as string);
}

/** What the first mapping that fits makes of a log record. `asked` is the preset that its sender named. */
export function applyMappings(
  mappings: readonly CompiledMapping[],
  subject: Subject,
  asked: string | undefined,
): Mapped | undefined {
  for (const mapping of mappings) {
    if (asked !== undefined && mapping.source !== asked) continue;
    const mapped = mapping.apply(subject);
    if (mapped !== undefined) return mapped;
  }
  return undefined;
}

/** A log record that has nothing but what is put into it. */
const NO_LOG: LogRecord = {
  ...{ traceId: '', spanId: '', timeNs: 0n, observedNs: 0n, severityNumber: 0, severityText: '', eventName: '' },
  body: undefined,
  attributes: new Map(),
  resource: { attributes: new Map() },
  scope: { name: '', version: '' },
  note: { receivedNs: 0n, namespace: '', sender: '', trusted: false, vouches: false, peer: '' },
  raw: new Uint8Array(),
};

/** Why none of a preset's mappings takes an item as it was sent; undefined when one does. */
export function misfit(mappings: readonly CompiledMapping[], preset: string, item: Document): string | undefined {
  const attributes = new Map([[PRESET_KEY, preset]]);
  const subject = subjectOf({ ...NO_LOG, attributes, body: item as LogRecord['body'] });
  let why: string | undefined;
  for (const mapping of mappings) {
    if (mapping.source !== preset) continue;
    const refusal = mapping.refusal(subject);
    if (refusal === undefined) return undefined;
    why ??= refusal;
  }
  return why;
}

/** Attributes that Spantrail's own receivers put on log records. */
const OWN_KEYS = [PRESET_KEY, 'spantrail.via', 'spantrail.tie'];

/** Names of the attributes in which mappings look, for the decoder: each path as a whole, and its first step. */
export function keysOfMappings(mappings: readonly Mapping[]): string[] {
  const keys = new Set<string>(OWN_KEYS);
  for (const mapping of mappings) {
    const own = keysKnown.get(mapping) ?? keysOf(mapping);
    keysKnown.set(mapping, own);
    for (const key of own) keys.add(key);
  }
  return [...keys];
}

function keysOf(mapping: Mapping): string[] {
  const templates = [...JSON.stringify(mapping).matchAll(/\$\{([^{}]+)\}/g)].map(([, path = '']) => path);
  return [...Object.keys(mapping.when), ...templates]
    .filter((path) => !(path in PSEUDO_VALUES))
    .flatMap((path) => [path, path.split('.')[0] as string]);
}
