import { readFileSync } from 'node:fs';
import { parseDocument } from 'yaml';
import { AppError, describeError } from '../core/errors.ts';
import { describeSettings, type SettingText, VARIABLE_PREFIX } from './describe.ts';
import { type Settings, settingsSchema } from './schema.ts';

export interface ConfigSource {
  /** YAML file; none means defaults, environment and overrides alone. */
  readonly file?: string | undefined;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Values from the command line by setting path, e.g. `receive.grpc.port`; they win over all else. */
  readonly overrides?: Readonly<Record<string, unknown>>;
}

/**
 * Settings from file, environment and command line, in rising order of precedence.
 * Throws AppError('config') whose message has one line for each mistake, with its path and what would be right.
 */
export function loadSettings(source: ConfigSource): Settings {
  const name = source.file ?? 'settings';
  const config = source.file === undefined ? {} : readYaml(source.file);
  const problems: string[] = [];
  const expanded = expand(config, source.environment, [], problems) as Record<string, unknown>;
  if (Object.keys(source.environment).some((variable) => variable.startsWith(VARIABLE_PREFIX))) {
    for (const setting of describeSettings()) applyEnvironment(expanded, setting, source.environment, problems);
  }
  for (const [path, value] of Object.entries(source.overrides ?? {})) {
    if (value !== undefined) assign(expanded, path.split('.'), value);
  }
  const parsed = settingsSchema.safeParse(expanded);
  const lines = problems.map((problem) => `${name}: ${problem}`);
  if (!parsed.success) {
    for (const issue of parsed.error.issues) {
      const place = variableOf(issue, source.environment) ?? name;
      lines.push(...describeIssue(issue).map((problem) => `${place}: ${problem}`));
    }
  }
  if (lines.length > 0 || !parsed.success) {
    throw new AppError('config', lines.join('\n'));
  }
  return parsed.data;
}

function readYaml(file: string): Record<string, unknown> {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    throw new AppError('config', `${file}: cannot be read: ${describeError(cause)}`, { cause });
  }
  const document = parseDocument(text, { prettyErrors: true });
  const [first] = document.errors;
  if (first) throw new AppError('config', `${file}: ${first.message.split('\n')[0]?.replace(/:$/, '')}`);
  let value: unknown;
  try {
    value = document.toJS() ?? {};
  } catch (cause) {
    // An alias without its anchor, or aliases of aliases beyond measure.
    throw new AppError('config', `${file}: ${describeError(cause)}`, { cause });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new AppError('config', `${file}: must hold settings by name, for example "dataDir: /var/lib/spantrail"`);
  }
  return value as Record<string, unknown>;
}

const VARIABLE = /\$\$|\$\{env:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}/g;

/** Replaces `${env:NAME}` and `${env:NAME:-default}` in texts, as the Collector does; `$$` stands for one dollar sign. */
function expand(
  value: unknown,
  environment: ConfigSource['environment'],
  path: readonly string[],
  problems: string[],
): unknown {
  if (typeof value === 'string') {
    return value.replace(VARIABLE, (whole, name: string | undefined, fallback: string | undefined) => {
      if (whole === '$$' || name === undefined) return '$';
      const found = environment[name] ?? fallback;
      if (found === undefined) problems.push(`${path.join('.')}: environment variable ${name} is not set`);
      return found ?? '';
    });
  }
  if (Array.isArray(value)) {
    return value.map((entry, index) => expand(entry, environment, [...path, String(index)], problems));
  }
  if (typeof value === 'object' && value !== null) {
    // A name without a value is what is left of a section whose lines are all commented out: as if it were not there.
    const entries = Object.entries(value).filter(([, entry]) => entry !== null);
    return Object.fromEntries(
      entries.map(([key, entry]) => [key, expand(entry, environment, [...path, key], problems)]),
    );
  }
  return value;
}

function applyEnvironment(
  config: Record<string, unknown>,
  setting: SettingText,
  environment: ConfigSource['environment'],
  problems: string[],
): void {
  const text = environment[setting.variable];
  if (text === undefined) return;
  if (setting.text) {
    assign(config, setting.path, text);
    return;
  }
  const document = parseDocument(text);
  try {
    if (document.errors.length > 0) throw document.errors[0];
    assign(config, setting.path, document.toJS());
  } catch {
    problems.push(`${setting.variable}: must be a YAML value`);
  }
}

function assign(config: Record<string, unknown>, path: readonly string[], value: unknown): void {
  let node = config;
  for (const key of path.slice(0, -1)) {
    const child = node[key];
    if (typeof child === 'object' && child !== null) node = child as Record<string, unknown>;
    else {
      const created: Record<string, unknown> = {};
      node[key] = created;
      node = created;
    }
  }
  const last = path.at(-1);
  if (last !== undefined) node[last] = value;
}

interface Issue {
  readonly code?: string | undefined;
  readonly path: readonly PropertyKey[];
  readonly message: string;
  readonly keys?: readonly string[];
  readonly errors?: readonly (readonly Issue[])[];
}

function describeIssue(issue: Issue): string[] {
  const path = issue.path.map(String).join('.');
  if (issue.code === 'unrecognized_keys') {
    return (issue.keys ?? []).map((key) => {
      const full = path === '' ? key : `${path}.${key}`;
      const near = nearestSetting(full);
      return `${full}: unknown setting${near === undefined ? '' : `; did you mean ${near}?`}`;
    });
  }
  // A union's own message ("invalid input") helps nobody: the most telling of its branches is the one for text.
  const branch = issue.errors?.at(-1)?.[0];
  return [`${path}: ${branch?.message ?? issue.message}`];
}

/** The environment variable that the value at fault comes from, if it does. */
function variableOf({ path }: Issue, environment: ConfigSource['environment']): string | undefined {
  const setting = describeSettings().find(({ path: own }) => own.every((key, at) => path[at] === key));
  return setting && environment[setting.variable] !== undefined ? setting.variable : undefined;
}

function nearestSetting(path: string): string | undefined {
  // What stands in an entry of a list has names of its own.
  if (/\.\d+\./.test(path)) return undefined;
  const last = path.split('.').at(-1)?.toLowerCase() ?? '';
  return describeSettings()
    .map((setting) => setting.path.join('.'))
    .find((known) => {
      const name = known.split('.').at(-1)?.toLowerCase() ?? '';
      return name.startsWith(last) || last.startsWith(name) || sameLetters(name, last);
    });
}

/** True for a swap or slip of letters: same length but for one, and the same letters but for two. */
function sameLetters(left: string, right: string): boolean {
  if (Math.abs(left.length - right.length) > 1 || left.length < 4) return false;
  const rest = [...right];
  const strange = [...left].filter((letter) => {
    const at = rest.indexOf(letter);
    if (at >= 0) rest.splice(at, 1);
    return at < 0;
  });
  return strange.length <= 2 && rest.length <= 2;
}
