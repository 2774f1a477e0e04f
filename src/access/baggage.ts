import { byKeys } from '../core/attribute-table.ts';
import type { Attributes, AttributeValue } from '../core/evidence.ts';
import { asText } from './attributes.ts';

/** What a span processor that copies baggage to attributes may put before each name. */
const PREFIX = 'baggage.';
/** The captured header, as languages spell its key. */
const HEADER_KEYS = [
  'http.request.header.baggage',
  'rpc.grpc.request.metadata.baggage',
  'rpc.request.metadata.baggage',
] as const;
/** W3C Baggage: what every platform must pass on, and so all that can be relied on. */
const BAGGAGE_CHARS_MAX = 8192;
const MEMBERS_MAX = 180;

/** Attribute keys that the decoder must keep for `baggageOf`. */
export const BAGGAGE_KEYS: readonly string[] = [`${PREFIX}*`, ...HEADER_KEYS];

/** Whatever `baggageOf` looks at, and some more. */
export function mayBeBaggage(key: string): boolean {
  return key.startsWith(PREFIX) || key.endsWith('.baggage');
}

const mayHaveBaggage = byKeys((keys) => keys.some(mayBeBaggage));

/**
 * What a request's baggage says, by name: attributes `baggage.<name>`, else a captured `baggage` header (W3C Baggage).
 * Undefined when there is none. Anybody before the service may have put it there: it is a hint, never a proof.
 */
export function baggageOf(attributes: Attributes): Attributes | undefined {
  if (!mayHaveBaggage(attributes)) return undefined;
  let members: Map<string, AttributeValue> | undefined;
  for (const [key, value] of attributes) {
    if (!key.startsWith(PREFIX) || key.length === PREFIX.length) continue;
    members ??= new Map();
    members.set(key.slice(PREFIX.length), value);
  }
  for (const key of HEADER_KEYS) {
    const value = attributes.get(key);
    if (value === undefined) continue;
    for (const line of Array.isArray(value) ? value : [value]) {
      const text = asText(line, BAGGAGE_CHARS_MAX);
      if (text === undefined) continue;
      members ??= new Map();
      parseBaggage(text, members);
    }
  }
  return members === undefined || members.size === 0 ? undefined : members;
}

/** `name=value;property, name=value`: values are percent-encoded, properties are of no interest; what does not fit is skipped. */
function parseBaggage(text: string, into: Map<string, AttributeValue>): void {
  for (const member of text.split(',', MEMBERS_MAX)) {
    const [pair = ''] = member.split(';', 1);
    const equals = pair.indexOf('=');
    const name = pair.slice(0, Math.max(equals, 0)).trim();
    const value = decoded(pair.slice(equals + 1).trim());
    if (name !== '' && value !== '' && !into.has(name)) into.set(name, value);
  }
}

function decoded(value: string): string {
  if (!value.includes('%')) return value;
  try {
    return decodeURIComponent(value);
  } catch {
    return value;
  }
}
