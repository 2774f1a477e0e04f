import { byKeys } from '../core/attribute-table.ts';
import type { Attributes } from '../core/evidence.ts';
import { asText, clip } from './attributes.ts';
import { BAGGAGE_KEYS, baggageOf, mayBeBaggage } from './baggage.ts';
import type { PurposeSettings } from './check-settings.ts';

/** What a name tells: a purpose of use, a ticket or case, or that somebody broke the glass. */
type Kind = 'purpose' | 'ticket' | 'breakGlass';

interface Told {
  readonly kind: Kind;
  /** Position among the names of its kind: the first that is there counts. */
  readonly order: number;
}

export interface PurposeSources {
  /** By attribute key: captured headers in either spelling, and attributes of the names themselves. */
  readonly byKey: ReadonlyMap<string, Told>;
  /** By the name in baggage, folded. */
  readonly byName: ReadonlyMap<string, Told>;
  /** Attribute keys that the decoder must keep. */
  readonly keys: readonly string[];
}

export const NO_PURPOSES: PurposeSettings = { purposes: [], tickets: [], breakGlass: [] };

const HEADER_PREFIXES = ['http.request.header.', 'rpc.grpc.request.metadata.', 'rpc.request.metadata.'];
const STATED = 'audit.purpose';
/** Longest text of one of them: what a person writes to explain an access, not a document. */
const TEXT_CHARS_MAX = 512;
const YES = /^(?:true|yes|1|on)$/i;
const NO = /^(?:false|no|0|off|none|-)$/i;

/** `x-purpose`, `X_Purpose` and `x.purpose` are one name. */
function folded(name: string): string {
  return name.toLowerCase().replaceAll(/[_.]/g, '-');
}

export function compilePurposes(settings: PurposeSettings): PurposeSources {
  const byKey = new Map<string, Told>([[STATED, { kind: 'purpose', order: -1 }]]);
  const byName = new Map<string, Told>();
  const lists: readonly (readonly [Kind, readonly string[]])[] = [
    ['purpose', settings.purposes],
    ['ticket', settings.tickets],
    ['breakGlass', settings.breakGlass],
  ];
  for (const [kind, names] of lists) {
    names.forEach((given, order) => {
      const name = folded(given);
      const told = { kind, order };
      if (!byName.has(name)) byName.set(name, told);
      const spellings = new Set([name, name.replaceAll('-', '_'), given]);
      for (const spelling of spellings) {
        for (const prefix of ['', ...HEADER_PREFIXES]) {
          if (!byKey.has(prefix + spelling)) byKey.set(prefix + spelling, told);
        }
        const dotted = spelling.replaceAll(/[-_]/g, '.');
        if (!byKey.has(dotted)) byKey.set(dotted, told);
      }
    });
  }
  return { byKey, byName, keys: [...byKey.keys(), ...BAGGAGE_KEYS] };
}

const mayTell = byKeys((keys, { byKey }: PurposeSources) => keys.some((key) => byKey.has(key) || mayBeBaggage(key)));

/**
 * What evidence says that its access is for, as one text: `treatment; ticket OPS-7; break-glass: reanimation`. Undefined when it says
 * nothing. Attributes and captured headers come before baggage, which anybody further up may have filled.
 */
export function purposeOf(attributes: Attributes, sources: PurposeSources): string | undefined {
  if (!mayTell(attributes, sources)) return undefined;
  const { byKey, byName } = sources;
  const found = new Map<Kind, { order: number; text: string }>();
  const offer = (told: Told | undefined, text: string | undefined, behind: number): void => {
    if (told === undefined || text === undefined) return;
    const order = told.order + behind;
    const known = found.get(told.kind);
    if (known === undefined || order < known.order) found.set(told.kind, { order, text });
  };
  let mayHaveBaggage = false;
  for (const [key, value] of attributes) {
    const told = byKey.get(key);
    if (told !== undefined) offer(told, asText(value, TEXT_CHARS_MAX), 0);
    else mayHaveBaggage ||= mayBeBaggage(key);
  }
  if (mayHaveBaggage) {
    const members = baggageOf(attributes) ?? [];
    for (const [name, value] of members) offer(byName.get(folded(name)), asText(value, TEXT_CHARS_MAX), byKey.size);
  }
  return found.size === 0 ? undefined : written(found);
}

function written(found: ReadonlyMap<Kind, { readonly text: string }>): string | undefined {
  const parts: string[] = [];
  const purpose = found.get('purpose')?.text;
  const ticket = found.get('ticket')?.text;
  const breakGlass = found.get('breakGlass')?.text;
  if (purpose !== undefined) parts.push(purpose);
  if (ticket !== undefined) parts.push(`ticket ${ticket}`);
  if (breakGlass !== undefined && !NO.test(breakGlass)) {
    parts.push(YES.test(breakGlass) ? 'break-glass' : `break-glass: ${breakGlass}`);
  }
  return parts.length === 0 ? undefined : clip(parts.join('; '));
}
