import { isMap, isScalar, isSeq, LineCounter, type Node, type ParsedNode, parseDocument, type YAMLSeq } from 'yaml';
import { compileRule, queryMistakes, type RuleLimits, type RuleMistake } from './compile-rule.ts';
import type { Definitions } from './definitions.ts';
import type { Rule } from './rule.ts';
import { ruleSchema } from './rule-schema.ts';

/** What is wrong in a rule file, and where. Lines and columns count from 1. */
export interface RuleProblem {
  readonly file: string;
  readonly line: number;
  readonly column: number;
  /** The rule's id, if it has one that can be read. */
  readonly rule?: string;
  /** e.g. `threshold.value`; empty for the whole rule. */
  readonly field: string;
  readonly message: string;
}

export interface RuleFile {
  /** What can be used: other rules' mistakes do not touch these. */
  readonly rules: readonly Rule[];
  readonly problems: readonly RuleProblem[];
}

export interface RuleContext {
  readonly definitions: Definitions;
  readonly limits: RuleLimits;
  /** Rule id → what the settings put in the place of what the file says. */
  readonly overrides?: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
}

/** More rules than that in a file are a mistake, most likely one of a program that writes it. */
const RULES_MAX = 1000;
/** A bomb of aliases is bigger. */
const ALIASES_MAX = 100;

export function describeProblem({ file, line, column, rule, field, message }: RuleProblem): string {
  const where = [rule === undefined ? '' : `rule ${rule}`, field].filter((part) => part !== '').join(', ');
  return `${file}:${line}:${column}: ${where === '' ? '' : `${where}: `}${message}`;
}

/** Reads a YAML list of rules. Never throws: each mistake comes back with its file, line and field. */
export function parseRuleFile(file: string, text: string, context: RuleContext): RuleFile {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, merge: true });
  const at = (offset: number | undefined) => {
    const { line, col } = lines.linePos(offset ?? 0);
    return { file, line: Math.max(line, 1), column: Math.max(col, 1) };
  };
  if (document.errors.length > 0) {
    const problems = document.errors.map(({ pos, message }) => ({ ...at(pos[0]), field: '', message }));
    return { rules: [], problems };
  }
  const list: ParsedNode | null = document.contents;
  const whole = (message: string): RuleFile => ({
    rules: [],
    problems: [{ ...at(list?.range[0]), field: '', message }],
  });
  if (list === null) return { rules: [], problems: [] };
  if (!isSeq(list)) return whole('must be a list of rules, each beginning with "- id: …"');
  if (list.items.length > RULES_MAX) return whole(`has more than ${RULES_MAX} rules`);
  let values: unknown;
  try {
    values = document.toJS({ maxAliasCount: ALIASES_MAX });
  } catch (error) {
    return whole(error instanceof Error ? error.message : String(error));
  }
  return readRules(list, values as unknown[], { ...context, file, at });
}

interface FileContext extends RuleContext {
  readonly file: string;
  readonly at: (offset: number | undefined) => Pick<RuleProblem, 'file' | 'line' | 'column'>;
}

function readRules(list: YAMLSeq<unknown>, values: readonly unknown[], context: FileContext): RuleFile {
  const rules: Rule[] = [];
  const problems: RuleProblem[] = [];
  const known = new Set<string>();
  for (const [index, node] of list.items.entries()) {
    const id = idOf(values[index]);
    const place = context.at((node as Node).range?.[0]);
    const override = id === undefined ? undefined : context.overrides?.[id];
    if (override !== undefined && Object.hasOwn(override, 'id') && id !== undefined) {
      const message = `is what settings name the rule by: detect.rules.override.${id} cannot change it`;
      problems.push({ ...place, rule: id, field: 'id', message });
    }
    const result = readRule(overridden(values[index], override), `${context.file}:${place.line}`, context);
    if (result.rule !== undefined && !known.has(result.rule.id)) {
      known.add(result.rule.id);
      rules.push(result.rule);
    } else if (result.rule !== undefined) {
      const message = 'there is a rule of this id above; each needs its own';
      problems.push({ ...place, rule: result.rule.id, field: 'id', message });
    }
    for (const { field, message, column } of result.mistakes) {
      const isOverridden = override !== undefined && Object.hasOwn(override, field[0] ?? '');
      const words = isOverridden ? `${message} (as detect.rules.override.${id} has it)` : message;
      const found = placeIn(node as Node, field, context, column);
      problems.push({ ...found, ...(id === undefined ? {} : { rule: id }), field: field.join('.'), message: words });
    }
  }
  return { rules, problems };
}

function idOf(value: unknown): string | undefined {
  const id = typeof value === 'object' && value !== null ? (value as { id?: unknown }).id : undefined;
  return typeof id === 'string' ? id : undefined;
}

/** What is a map on both sides is put together key by key. A rule keeps its id. */
function overridden(value: unknown, override: Readonly<Record<string, unknown>> | undefined): unknown {
  if (override === undefined || typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(override).map(([key, given]) => {
    const own = (value as Record<string, unknown>)[key];
    const areMaps = [own, given].every((one) => typeof one === 'object' && one !== null && !Array.isArray(one));
    return [key, areMaps ? { ...(own as object), ...(given as object) } : given];
  });
  return { ...value, ...Object.fromEntries(entries.filter(([key]) => key !== 'id')) };
}

interface ReadRule {
  readonly rule?: Rule;
  readonly mistakes: readonly RuleMistake[];
}

function readRule(value: unknown, place: string, { definitions, limits }: RuleContext): ReadRule {
  const parsed = ruleSchema.safeParse(value);
  if (!parsed.success) {
    const mistakes = parsed.error.issues.flatMap((issue) => mistakesOf(issue));
    return { mistakes: [...mistakes, ...queryMistakes(value, definitions)] };
  }
  const compiled = compileRule(parsed.data, place, definitions, limits);
  return compiled.ok ? { rule: compiled.rule, mistakes: [] } : { mistakes: compiled.mistakes };
}

interface Issue {
  readonly code?: string | undefined;
  readonly path: readonly PropertyKey[];
  readonly message: string;
  readonly keys?: readonly string[];
}

function mistakesOf(issue: Issue): RuleMistake[] {
  const field = issue.path.map(String);
  if (issue.code !== 'unrecognized_keys') return [{ field, message: issue.message }];
  return (issue.keys ?? []).map((key) => ({
    field: [...field, key],
    message: 'there is no such field in a rule of this type',
  }));
}

/** Where the field stands, or what is nearest to it of what is there. */
function placeIn(node: Node, path: readonly string[], { at }: FileContext, queryColumn: number | undefined) {
  let found: Node = node;
  for (const key of path) {
    const next = isMap(found)
      ? found.items.find((pair) => isScalar(pair.key) && String(pair.key.value) === key)
      : isSeq(found)
        ? (found.items[Number(key)] as Node | undefined)
        : undefined;
    if (next === undefined) break;
    if ('key' in next) found = (next.value ?? next.key) as Node;
    else found = next;
  }
  const place = at(found.range?.[0]);
  // In a plain scalar on one line a column of the text is one of the file; quotes take one more.
  if (queryColumn === undefined || !isScalar(found)) return place;
  const isPlain = found.type === 'PLAIN' || found.type === 'QUOTE_SINGLE' || found.type === 'QUOTE_DOUBLE';
  if (!isPlain) return place;
  return { ...place, column: place.column + queryColumn - (found.type === 'PLAIN' ? 1 : 0) };
}
