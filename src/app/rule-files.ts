import { readdir, readFile, stat } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import type { Settings } from '../config/schema.ts';
import { describeError } from '../core/errors.ts';
import { type Definitions, expandDefinitions } from '../detect/definitions.ts';
import type { Rule } from '../detect/rule.ts';
import { parseRuleFile, type RuleProblem } from '../detect/rule-file.ts';

/** The same place in a checkout and in a package. */
const SHIPPED = fileURLToPath(new URL('../../deploy/rules', import.meta.url));
const DEFINITIONS = 'definitions.yaml';
const YAML = /\.ya?ml$/;
/** Longer files are not what people write. */
const FILE_BYTES_MAX = 4 * 1024 ** 2;

export interface LoadedRules {
  /** All that can be used, off ones included. */
  readonly rules: readonly Rule[];
  readonly problems: readonly RuleProblem[];
  readonly files: readonly string[];
}

type RuleSettings = Settings['detect'];

/** Rules of the files that the settings name, or of `files` alone. Never rejects: what cannot be read is a problem. */
export async function loadRules(settings: RuleSettings, files?: readonly string[]): Promise<LoadedRules> {
  const problems: RuleProblem[] = [];
  const complain = (file: string, message: string, field = '') => {
    problems.push({ file, line: 1, column: 1, field, message });
  };
  const { paths, unreadable } = await ruleFiles(settings, files);
  for (const { path, reason } of unreadable) complain(path, `cannot be read: ${reason}`);
  const definitions = await definitionsOf(settings, complain);
  const { entriesMax, rules: own } = settings;
  const context = { definitions, limits: { entriesMax }, overrides: own.override };
  const rules = new Map<string, Rule>();
  for (const path of paths) {
    const name = shortName(path);
    const found = parseRuleFile(name, await readText(path, complain), context);
    problems.push(...found.problems);
    for (const rule of found.rules) {
      const known = rules.get(rule.id);
      if (known !== undefined)
        complain(name, `rule ${rule.id} is in ${known.place}, too; each id may be there once`, 'id');
      else rules.set(rule.id, own.off.includes(rule.id) ? { ...rule, enabled: false } : rule);
    }
  }
  if (files === undefined) complainOfStrangers(settings, rules, problems, complain);
  return { rules: [...rules.values()], problems, files: paths };
}

/** Settings may name rules whose file is broken: that is said once, by the file. */
function complainOfStrangers(
  { rules: { off, override } }: RuleSettings,
  rules: ReadonlyMap<string, Rule>,
  problems: readonly RuleProblem[],
  complain: (file: string, message: string) => void,
): void {
  if (problems.length > 0) return;
  for (const id of off) if (!rules.has(id)) complain('detect.rules.off', `there is no rule "${id}"`);
  for (const id of Object.keys(override)) {
    if (!rules.has(id)) complain('detect.rules.override', `there is no rule "${id}"`);
  }
}

/** Changes whenever one of the files does, or there are others. */
export async function stampOfRules(settings: RuleSettings): Promise<string> {
  const { paths, unreadable } = await ruleFiles(settings);
  const stamps = await Promise.all(
    paths.map(async (path) => {
      const found = await stat(path).catch(() => undefined);
      return found === undefined ? `${path} absent` : `${path} ${found.ino} ${found.size} ${found.mtimeMs}`;
    }),
  );
  return [...stamps, ...unreadable.map(({ path }) => `${path} unreadable`)].join('\n');
}

async function ruleFiles({ shippedRules, rules }: RuleSettings, files?: readonly string[]) {
  const paths: string[] = [];
  const unreadable: { readonly path: string; readonly reason: string }[] = [];
  const add = async (path: string) => {
    try {
      const isFolder = (await stat(path)).isDirectory();
      const names = isFolder ? (await readdir(path)).filter((name) => YAML.test(name) && name !== DEFINITIONS) : [];
      paths.push(...(isFolder ? names.sort().map((name) => join(path, name)) : [path]));
    } catch (error) {
      // A package may come without any.
      if (path !== SHIPPED) unreadable.push({ path, reason: describeError(error) });
    }
  };
  for (const path of files ?? [...(shippedRules ? [SHIPPED] : []), ...rules.files]) await add(path);
  return { paths, unreadable };
}

/** A definition as query text, others that it uses written out; undefined when there is none that can be used. */
export async function definitionText(settings: RuleSettings, name: string): Promise<string | undefined> {
  const definitions = await definitionsOf(settings, () => undefined);
  const expanded = Object.hasOwn(definitions, name) ? expandDefinitions(`$${name}`, definitions) : undefined;
  return expanded?.ok ? expanded.text : undefined;
}

/** Those that come with Spantrail; what the settings say stands above them. */
async function definitionsOf(
  { definitions }: RuleSettings,
  complain: (file: string, message: string) => void,
): Promise<Definitions> {
  const path = join(SHIPPED, DEFINITIONS);
  try {
    const shipped: unknown = parse(await readFile(path, 'utf8'));
    return { ...(shipped as Definitions | null), ...definitions };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') complain(path, describeError(error));
    return definitions;
  }
}

async function readText(path: string, complain: (file: string, message: string) => void): Promise<string> {
  try {
    if ((await stat(path)).size > FILE_BYTES_MAX) throw new Error(`it has more than ${FILE_BYTES_MAX} bytes`);
    return await readFile(path, 'utf8');
  } catch (error) {
    complain(shortName(path), `cannot be read: ${describeError(error)}`);
    return '';
  }
}

/** As a person would write it. */
function shortName(path: string): string {
  const shipped = relative(SHIPPED, path);
  if (!shipped.startsWith('..')) return join('deploy/rules', shipped);
  return path;
}
