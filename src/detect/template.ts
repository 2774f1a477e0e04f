/** Reasons: text with `${name}`, where a name is one of these or a field of the record that raised the alert. */
const OWN_NAMES = new Set(['count', 'value', 'threshold', 'window', 'group', 'term', 'rule']);

const PLACEHOLDER = /\$\{([^}]*)\}/g;
/** Longest value shown of a field, characters. */
const VALUE_CHARS_MAX = 200;

/** The record's fields that a template shows. */
export function templateFields(template: string): string[] {
  const names = [...template.matchAll(PLACEHOLDER)].map((match) => (match[1] ?? '').trim());
  return [...new Set(names.filter((name) => !OWN_NAMES.has(name)))];
}

/** A value that is not known reads `unknown`. What records say stays on the sentence's one line. */
export function fillTemplate(template: string, values: Readonly<Record<string, string | undefined>>): string {
  return template
    .replace(PLACEHOLDER, (_, name: string) => {
      const value = (values[name.trim()] ?? 'unknown').replace(/[\r\n\u2028\u2029]+/g, ' ');
      return value.length > VALUE_CHARS_MAX ? `${value.slice(0, VALUE_CHARS_MAX)}…` : value;
    })
    .replace(/ \(\)/g, '');
}

const UNITS_MS: readonly (readonly [number, string])[] = [
  [86_400_000, 'd'],
  [3_600_000, 'h'],
  [60_000, 'min'],
  [1000, 's'],
];

/** `10 min`, `1.5 h`. */
export function formatMs(milliseconds: number): string {
  const [size, unit] = UNITS_MS.find(([least]) => milliseconds >= least) ?? [1, 'ms'];
  return `${Math.round((milliseconds / size) * 10) / 10} ${unit}`;
}
