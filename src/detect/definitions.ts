/** Named pieces of query text, which queries use as `$name`: each stands there in parentheses. */
export type Definitions = Readonly<Record<string, string>>;

/** Definitions inside of definitions; more is a circle, most likely. */
const DEPTH_MAX = 8;
/** As much as a query may have. */
const TEXT_CHARS_MAX = 8192;

const USE = /"(?:[^"\\]|\\.)*"|\\.|\$([A-Za-z][A-Za-z0-9_-]*)/gs;

export interface Expanded {
  readonly ok: true;
  readonly text: string;
  /** Where a column of the expanded text (from 1) stands in the rule's own, and in which definition, if it does in one. */
  origin(column: number): { readonly column: number; readonly definition?: string };
}

export type Expansion = Expanded | { readonly ok: false; readonly message: string; readonly column: number };

interface Piece {
  /** Offset in the expanded text, and in the own one. */
  readonly at: number;
  readonly from: number;
  readonly definition?: string;
}

/** Replaces `$name` outside of quotes. A name that is not defined is a mistake. */
export function expandDefinitions(text: string, definitions: Definitions, depth = 0): Expansion {
  const pieces: Piece[] = [{ at: 0, from: 0 }];
  let expanded = '';
  let from = 0;
  for (const match of text.matchAll(USE)) {
    const name = match[1];
    if (name === undefined) continue;
    const column = match.index + 1;
    const body = Object.hasOwn(definitions, name) ? definitions[name] : undefined;
    if (body === undefined) {
      const known = Object.keys(definitions).map((one) => `$${one}`);
      const names = known.length === 0 ? 'none is defined in detect.definitions' : `there are ${known.join(', ')}`;
      return { ok: false, column, message: `$${name} is not defined; ${names}. Quote "$${name}" to mean the text` };
    }
    if (depth >= DEPTH_MAX) return { ok: false, column, message: `$${name} leads back to itself` };
    const inner = expandDefinitions(body, definitions, depth + 1);
    if (!inner.ok) return { ok: false, column, message: `in $${name}: ${inner.message}` };
    expanded += text.slice(from, match.index);
    pieces.push({ at: expanded.length, from: match.index, definition: name });
    expanded += `(${inner.text})`;
    from = match.index + match[0].length;
    pieces.push({ at: expanded.length, from });
    if (expanded.length > TEXT_CHARS_MAX) {
      return { ok: false, column, message: `with $${name} the query is longer than ${TEXT_CHARS_MAX} characters` };
    }
  }
  return {
    ok: true,
    text: expanded + text.slice(from),
    origin(column) {
      const piece = pieces.findLast(({ at }) => at <= column - 1) ?? { at: 0, from: 0 };
      if (piece.definition !== undefined) return { column: piece.from + 1, definition: piece.definition };
      return { column: column - piece.at + piece.from };
    },
  };
}
