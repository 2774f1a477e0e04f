import { RE2JS } from 're2js';

/** The groups that a text has; undefined when it does not fit. */
export type Groups = Readonly<Record<string, string>>;

export interface Pattern {
  readonly groups: readonly string[];
  match(text: string): Groups | undefined;
}

/** Longest text that a pattern looks at. */
const TEXT_CHARS_MAX = 65_536;
/** RE2 has no limit on the size of a program of its own here. */
const PATTERN_CHARS_MAX = 4096;

/**
 * A regular expression with named groups. The engine is RE2's: its time is linear in the text whatever the expression, because
 * settling must not stall on what a sender wrote; so it knows neither look-around nor back-references. Throws Error that says what
 * is wrong with it.
 */
export function compilePattern(source: string): Pattern {
  if (source.length > PATTERN_CHARS_MAX) throw new Error(`it has more than ${PATTERN_CHARS_MAX} characters`);
  const compiled = RE2JS.compile(source);
  const groups = Object.keys(compiled.namedGroups());
  return {
    groups,
    match: (text) => {
      const matcher = compiled.matcher(text.length > TEXT_CHARS_MAX ? text.slice(0, TEXT_CHARS_MAX) : text);
      if (!matcher.find()) return undefined;
      const found: Record<string, string> = {};
      for (const name of groups) {
        const value = matcher.group(name);
        if (value !== null && value !== '') found[name] = value;
      }
      return found;
    },
  };
}

/** The groups of the first pattern that fits. */
export function firstMatch(patterns: readonly Pattern[], text: string): Groups | undefined {
  for (const pattern of patterns) {
    const groups = pattern.match(text);
    if (groups !== undefined) return groups;
  }
  return undefined;
}
