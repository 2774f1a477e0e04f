import type { AttributeValue, LogRecord } from '../../core/evidence.ts';
import { asText } from '../attributes.ts';
import { fitsGlob, globOf } from '../glob.ts';
import type { Source, SourceRule } from './mapping.ts';
import { compilePath, type Document, type Lookup, PATH_STEPS_MAX } from './path.ts';

/** The value that a record has for a field; undefined for none. */
export type Read = (document: Document, log: LogRecord) => AttributeValue | undefined;

/** What compiling a source needs from the mapping it belongs to. `fail` throws with the place in it. */
export interface SourceContext {
  readonly condition: (
    when: NonNullable<SourceRule['when']>,
    place: string,
  ) => (document: Document, log: LogRecord) => boolean;
  /** Texts that stand for no value. */
  readonly nothing: ReadonlySet<unknown>;
  readonly fail: (place: string, problem: string) => never;
}

const TEMPLATE = /\$\{([^{}]*)\}/g;
const UNITS_NS = { s: 1e9, ms: 1e6, us: 1e3, ns: 1 } as const;
/** Longest text that is decoded from base64. */
const ENCODED_CHARS_MAX = 65_536;

/** Makes a source ready for use; `place` is where it stands, for messages. */
export function compileSource(source: Source, place: string, context: SourceContext): Read {
  if (typeof source === 'string') return compileTemplate(source, place, context);
  if (!('from' in source)) return firstOf(source, place, context);
  return compileRule(source, place, context);
}

function firstOf(sources: readonly Source[], place: string, context: SourceContext): Read {
  if (sources.length === 0) context.fail(place, 'an empty list has no value; leave the field out');
  const reads = sources.map((source, index) => compileSource(source, `${place}.${index}`, context));
  return (document, log) => {
    for (const read of reads) {
      const value = read(document, log);
      if (value !== undefined && value !== '') return value;
    }
    return undefined;
  };
}

function lookupOf(path: string, place: string, { fail, nothing }: SourceContext): Lookup {
  if (path.trim() !== path || path === '') fail(place, `"\${${path}}" names no field`);
  if (path.split('.').length > PATH_STEPS_MAX) fail(place, `"${path}" has more than ${PATH_STEPS_MAX} steps`);
  const lookUp = compilePath(path);
  if (nothing.size === 0) return lookUp;
  return (document) => {
    const value = lookUp(document);
    return nothing.has(value) ? undefined : value;
  };
}

function compileTemplate(template: string, place: string, context: SourceContext): Read {
  const lone = /^\$\{([^{}]*)\}$/.exec(template)?.[1];
  if (lone !== undefined) return lookupOf(lone, place, context);
  if (template.replace(TEMPLATE, '').includes('${'))
    context.fail(place, `"${template}" has a "\${" that is not closed`);
  const parts: (string | Lookup)[] = [];
  let end = 0;
  for (const match of template.matchAll(TEMPLATE)) {
    parts.push(template.slice(end, match.index), lookupOf(match[1] ?? '', place, context));
    end = match.index + match[0].length;
  }
  if (parts.length === 0) return () => template;
  parts.push(template.slice(end));
  return (document) => {
    let text = '';
    for (const part of parts) {
      const piece = typeof part === 'string' ? part : asText(part(document));
      if (piece === undefined) return undefined;
      text += piece;
    }
    return text;
  };
}

function compileRule(rule: SourceRule, place: string, context: SourceContext): Read {
  const from = compileSource(rule.from, `${place}.from`, context);
  const fits = rule.when && context.condition(rule.when, `${place}.when`);
  const steps: ((value: AttributeValue) => AttributeValue | undefined)[] = [];
  if (rule.decode === 'base64') steps.push(decode);
  if (rule.map !== undefined) steps.push(compileMap(rule.map));
  if (rule.join !== undefined) steps.push(joinWith(rule.join));
  if (rule.unit !== undefined) steps.push(inNanoseconds(UNITS_NS[rule.unit]));
  return (document, log) => {
    if (fits !== undefined && !fits(document, log)) return undefined;
    let value = from(document, log);
    for (const step of steps) if (value !== undefined) value = step(value);
    return value;
  };
}

function compileMap(map: NonNullable<SourceRule['map']>): (value: AttributeValue) => AttributeValue | undefined {
  const entries = Object.entries(map).map(([pattern, value]) => ({ glob: globOf(pattern), value }));
  const look = (item: AttributeValue): readonly string[] => {
    const text = asText(item);
    const value = text === undefined ? undefined : entries.find(({ glob }) => fitsGlob(glob, text))?.value;
    return value === undefined ? [] : typeof value === 'string' ? [value] : value;
  };
  return (value) => {
    const found = Array.isArray(value) ? [...new Set(value.flatMap(look))] : look(value);
    return found.length > 1 ? [...found] : found[0];
  };
}

function joinWith(separator: string): (value: AttributeValue) => AttributeValue | undefined {
  return (value) => {
    if (!Array.isArray(value)) return value;
    const items = value.map((item) => asText(item)).filter((item) => item !== undefined);
    return items.length > 0 ? items.join(separator) : undefined;
  };
}

function inNanoseconds(unitNs: number): (value: AttributeValue) => number | undefined {
  return (value) => {
    const text = asText(value);
    const amount = text === undefined ? Number.NaN : Number(text);
    const durationNs = Math.round(amount * unitNs);
    return Number.isSafeInteger(durationNs) && durationNs >= 0 ? durationNs : undefined;
  };
}

function decode(value: AttributeValue): string | undefined {
  const text = asText(value, ENCODED_CHARS_MAX);
  return text === undefined ? undefined : Buffer.from(text, 'base64').toString('utf8');
}
