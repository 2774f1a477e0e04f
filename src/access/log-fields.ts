import type { Attributes, AttributeValue, LogRecord } from '../core/evidence.ts';
import { LIST_ITEMS_MAX } from '../core/limits.ts';
import type { Check } from '../core/record.ts';
import { asText, clip, compact } from './attributes.ts';

/** Longest text body that is read as JSON. Access events are small; what is longer is a document, not an event. */
const JSON_CHARS_MAX = 65_536;
const DEPTH_MAX = 6;
const FIELDS_MAX = 256;
/** Values under these names are kept whole. */
const WHOLE = new Set(['audit.checks', 'audit.change.before', 'audit.change.after']);

function isPlain(value: unknown): value is { [key: string]: AttributeValue } {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function flatten(
  value: { [key: string]: AttributeValue },
  prefix: string,
  depth: number,
  into: Map<string, AttributeValue>,
): void {
  for (const [key, child] of Object.entries(value)) {
    if (into.size >= FIELDS_MAX) return;
    const name = prefix + key;
    if (isPlain(child) && !WHOLE.has(name)) {
      if (depth < DEPTH_MAX) flatten(child, `${name}.`, depth + 1, into);
    } else if (child !== null) into.set(name, child);
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/**
 * The fields of an event: its attributes, and what a body of key-values or JSON text adds in the same dotted names. Text is
 * parsed only when it may hold such names.
 */
export function fieldsOf(log: LogRecord): Attributes {
  const { body, attributes } = log;
  const isJson = typeof body === 'string' && body.length <= JSON_CHARS_MAX && /^\s*\{/.test(body);
  const content = isJson && /"(?:audit|event)(?:"|\.)/.test(body) ? parsed(body) : body;
  if (!isPlain(content)) return attributes;
  const fields = new Map<string, AttributeValue>();
  flatten(content, '', 0, fields);
  for (const [name, value] of attributes) fields.set(name, value);
  return fields;
}

const YES = /^(?:true|yes|1|allow|allowed|grant|granted|permit|permitted|pass)$/i;

/** Authorisation checks given as a list of key-values, one of them, or JSON text of either. Entries that say nothing are skipped. */
export function checksOf(value: AttributeValue | undefined): readonly Check[] | undefined {
  const given = typeof value === 'string' && value.length <= JSON_CHARS_MAX ? parsed(value) : value;
  const entries: unknown[] = Array.isArray(given) ? given : [given];
  const checks = entries.filter(isPlain).flatMap((entry): Check[] => {
    const granted = asText(entry['granted']) ?? asText(entry['decision']);
    if (granted === undefined) return [];
    const duration = Number(asText(entry['duration']));
    return [
      compact({
        permission: asText(entry['permission']),
        target: asText(entry['target']),
        granted: YES.test(granted),
        rule: asText(entry['rule']),
        span_id: asText(entry['span_id']),
        duration: Number.isFinite(duration) ? duration : undefined,
        engine: asText(entry['engine']),
      }),
    ];
  });
  return checks.length > 0 ? checks.slice(0, LIST_ITEMS_MAX) : undefined;
}

/** A value of any shape as text, structures as JSON. */
export function asJsonText(value: AttributeValue | undefined): string | undefined {
  if (value === undefined || typeof value !== 'object') return asText(value);
  return clip(JSON.stringify(value, (_, item: unknown) => (typeof item === 'bigint' ? String(item) : item)));
}
