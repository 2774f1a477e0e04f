import { z } from 'zod';
import { settingsSchema } from './schema.ts';

/** Of every environment variable that holds a setting. */
export const VARIABLE_PREFIX = 'SPANTRAIL_';

/** One leaf of the settings tree, for docs, the example file and the environment. */
export interface SettingText {
  readonly path: readonly string[];
  /** Environment variable that sets it. */
  readonly variable: string;
  readonly description: string;
  /** As a person would write it; undefined when there is none. */
  readonly byDefault: unknown;
  readonly type: string;
  /** The value is plain text, so an environment variable is taken as it is and not read as YAML. */
  readonly text: boolean;
}

interface Node {
  readonly type?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly enum?: readonly unknown[];
  readonly properties?: Readonly<Record<string, Node>>;
  readonly anyOf?: readonly Node[];
  readonly oneOf?: readonly Node[];
  readonly items?: Node;
}

/** JSON Schema of what a user may write, for editors. */
export function settingsJsonSchema(): object {
  return z.toJSONSchema(settingsSchema, { io: 'input' });
}

let described: readonly SettingText[] | undefined;

/** Every setting in the order of the schema. */
export function describeSettings(): readonly SettingText[] {
  described ??= walk(settingsJsonSchema() as Node, []);
  return described;
}

function walk(node: Node, path: readonly string[]): SettingText[] {
  if (node.properties) {
    return Object.entries(node.properties).flatMap(([key, child]) => walk(child, [...path, key]));
  }
  return [
    {
      path,
      variable: `${VARIABLE_PREFIX}${path.map(upperSnake).join('_')}`,
      description: node.description ?? '',
      byDefault: node.default,
      type: typeName(node),
      text: node.type === 'string' || node.enum !== undefined,
    },
  ];
}

function upperSnake(key: string): string {
  return key.replace(/([a-z0-9])([A-Z])/g, '$1_$2').toUpperCase();
}

function typeName(node: Node): string {
  if (node.enum) return node.enum.map(String).join(' \\| ');
  if (node.anyOf) return node.anyOf.some((branch) => branch.type === 'string') ? 'number with unit' : 'value';
  if (node.type === 'array') return `list of ${node.items?.type === 'object' || node.items?.oneOf ? 'rules' : 'texts'}`;
  return node.type ?? 'value';
}

/** `docs/settings.md`: one table row for each setting. */
export function settingsMarkdown(): string {
  const rows = describeSettings().map((setting) => {
    const value =
      setting.byDefault === undefined ? '' : `\`${JSON.stringify(setting.byDefault).replaceAll('|', '\\|')}\``;
    const shown = value.length > 60 ? 'see the example file' : value;
    return `| \`${setting.path.join('.')}\` | ${setting.type} | ${shown} | ${setting.description} | \`${setting.variable}\` |`;
  });
  return [
    '# Settings',
    '',
    'Written as YAML and given with `--config FILE`; each can be set by its environment variable too, and the command line',
    'wins over both. `${env:NAME}` and `${env:NAME:-default}` are replaced in any text. Unknown names are errors.',
    'Made by `spantrail config docs`; `spantrail config check FILE` checks a file, `spantrail config schema` prints its JSON Schema.',
    '',
    '| setting | type | default | meaning | variable |',
    '|---|---|---|---|---|',
    ...rows,
    '',
  ].join('\n');
}

/** The example file: every setting with its default and its meaning, commented out. */
export function settingsExample(): string {
  const lines = ['# Spantrail settings. Every line shows its default; take away the "# " of what you change.'];
  let open: readonly string[] = [];
  for (const setting of describeSettings()) {
    const folders = setting.path.slice(0, -1);
    folders.forEach((key, depth) => {
      if (open[depth] !== key || open.slice(0, depth).join() !== folders.slice(0, depth).join()) {
        lines.push(`${depth === 0 ? '\n' : ''}# ${'  '.repeat(depth)}${key}:`);
        open = folders.slice(0, depth + 1);
      }
    });
    open = folders;
    const indent = '  '.repeat(folders.length);
    if (setting.description !== '') lines.push(`#${indent} # ${setting.description}`);
    const value = setting.byDefault === undefined ? '' : ` ${JSON.stringify(setting.byDefault)}`;
    lines.push(`# ${indent}${setting.path.at(-1)}:${value}`);
  }
  return `${lines.join('\n')}\n`;
}
