import { byKeys } from '../../core/attribute-table.ts';
import type { CompiledMapping } from './compile.ts';
import type { Subject } from './document.ts';

/** Mappings in the order in which they are asked: the user's come before what an event says by itself, the presets after it. */
export interface Candidates {
  readonly own: readonly CompiledMapping[];
  readonly presets: readonly CompiledMapping[];
}

/** Sets of beginnings whose candidates are remembered; few come, since few programs write a log. */
const SETS_MAX = 1_024;

const NONE: readonly string[] = [];

/**
 * Those that a log record could fit, as far as its names tell: most are no audit events, and this must cost them little. Each mapping
 * has names that it cannot do without (its gates); a record has some of them or, mostly, none.
 */
export function compileCandidates({ own, presets }: Candidates): (subject: Subject) => Candidates {
  const gates = new Set([...own, ...presets].flatMap((mapping) => mapping.gates));
  // Of several that begin at one place the longest is found, which tells the others.
  const longest = [...gates].sort((one, other) => other.length - one.length);
  const alternatives = longest.map((gate) => gate.replace(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`)).join('|');
  const inJson = longest.length === 0 ? undefined : new RegExp(`"(?:${alternatives})`, 'g');
  const known = new Map<string, Candidates>();

  const candidatesOf = (begun: readonly string[]): Candidates => {
    const mayFit = (mapping: CompiledMapping) =>
      mapping.gates.every((gate) => begun.some((name) => name.startsWith(gate)));
    return { own: own.filter(mayFit), presets: presets.filter(mayFit) };
  };
  const without = candidatesOf(NONE);

  return ({ log: { body, attributes, resource }, text, hasOwnFields }) => {
    if (!hasOwnFields && attributes.size === 0) return without;
    const begun = [...begunBy(attributes, longest), ...begunBy(resource.attributes, longest)];
    if (hasOwnFields) {
      if (text === undefined) begun.push(...begunAmong(Object.keys(body as object), longest));
      else if (inJson !== undefined) for (const name of text.match(inJson) ?? NONE) begun.push(name.slice(1));
    }
    if (begun.length === 0) return without;
    const key = JSON.stringify([...new Set(begun)].sort());
    let candidates = known.get(key);
    if (candidates === undefined) {
      candidates = candidatesOf(begun);
      if (known.size < SETS_MAX) known.set(key, candidates);
    }
    return candidates;
  };
}

/** The gates with which any of the names begins. */
function begunAmong(names: readonly string[], gates: readonly string[]): string[] {
  return gates.filter((gate) => names.some((name) => name.startsWith(gate)));
}

const begunBy = byKeys(begunAmong);
