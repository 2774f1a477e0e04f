import { createHash } from 'node:crypto';
import type { estypes } from '@elastic/elasticsearch';
import { FIELDS, type FieldType } from '../../core/fields.ts';
import { SCHEMA_VERSION } from '../../core/record.ts';
import type { ElasticsearchSettings } from './connection.ts';
import { indexPattern, namespacePrefix } from './indices.ts';

/** Above the templates that the stack brings (100 to 200), so that ours win. */
export const TEMPLATE_PRIORITY = 300;

/** The component template that holds mapping and settings, and one of the administrator's own that is laid over it. */
export const COMPONENT = 'spantrail';
export const CUSTOM_COMPONENT = 'spantrail@custom';

const DIGEST_PREFIX = 'sha256:';

/** 4 bytes a character at most, and a term must stay below 32,766 bytes. Above every limit of the record's own. */
const KEYWORD_CHARS_MAX = 8191;

const MAPPING_OF: Readonly<Record<FieldType, estypes.MappingProperty>> = {
  keyword: { type: 'keyword', ignore_above: KEYWORD_CHARS_MAX },
  // `simple` makes the letter runs that queries are about; the standard analysis is for people who search in Kibana.
  text: { type: 'text', fields: { letters: { type: 'text', analyzer: 'simple' } } },
  date: { type: 'date_nanos' },
  duration: { type: 'long' },
  long: { type: 'long' },
  double: { type: 'double' },
  boolean: { type: 'boolean' },
  ip: { type: 'ip' },
};

type Properties = Record<string, estypes.MappingProperty>;

/** The catalogue of fields. Whatever else a record holds is stored and shown, but not indexed. */
export function fieldProperties(): Properties {
  const properties: Properties = {};
  for (const field of FIELDS) {
    const path = field.name.split('.');
    let level = properties;
    for (const key of path.slice(0, -1)) {
      const node = level[key];
      const inner: Properties = node && 'properties' in node ? (node.properties ?? {}) : {};
      level[key] = { properties: inner };
      level = inner;
    }
    level[path.at(-1) ?? ''] = MAPPING_OF[field.type];
  }
  return properties;
}

/** In `_meta` of the mapping: which catalogue of fields an index has, so that one that lacks fields is known. */
export const FIELDS_DIGEST = digestOf(fieldProperties());

interface IndexSetting {
  readonly name: string;
  readonly value: string | number | readonly string[];
  /** Written into the template as well, for those who look at it there. */
  readonly why: string;
}

function indexSettings(settings: ElasticsearchSettings): readonly IndexSetting[] {
  return [
    {
      name: 'index.mode',
      value: 'logsdb',
      why: 'less disk for the same records',
    },
    {
      name: 'index.mapping.source.mode',
      value: 'stored',
      why: 'a record must come back as it was written; a synthesised source flattens arrays of objects',
    },
    {
      name: 'index.sort.field',
      value: ['@timestamp'],
      why: 'records are read by time; also what logsdb compresses by',
    },
    { name: 'index.sort.order', value: ['desc'], why: 'the newest are asked for first' },
    { name: 'index.number_of_replicas', value: settings.replicas, why: 'setting store.elasticsearch.replicas' },
    {
      name: 'index.refresh_interval',
      value: `${settings.refreshIntervalMs}ms`,
      why: 'setting store.elasticsearch.refreshIntervalMs',
    },
    { name: 'index.translog.durability', value: 'request', why: 'an acknowledged write is on disk' },
    {
      name: 'index.gc_deletes',
      value: '1h',
      why: 'how long the deleted copy of a record that moved to another day still turns down an outranked write',
    },
  ];
}

/** A template as it is sent, without what tells of it (`_meta`, `version`). */
type Content = Readonly<Record<string, unknown>>;

export interface WantedTemplate {
  readonly name: string;
  readonly kind: 'component' | 'index';
  readonly content: Content;
  readonly meta: Readonly<Record<string, unknown>>;
}

/** The component first: the others cannot be without it. */
export function wantedTemplates(settings: ElasticsearchSettings): readonly WantedTemplate[] {
  const table = indexSettings(settings);
  const component = {
    template: {
      settings: Object.fromEntries(table.map(({ name, value }) => [name, value])),
      mappings: { dynamic: false, _meta: { spantrail_fields: FIELDS_DIGEST }, properties: fieldProperties() },
    },
  };
  const reasons = {
    ...Object.fromEntries(table.map(({ name, why }) => [name, why])),
    dynamic:
      'fields come from one catalogue; what senders put in can neither add fields nor be refused for their number',
    changes: `belong into the component template ${CUSTOM_COMPONENT}, which is laid over this one and never touched by Spantrail`,
  };
  return [
    wanted('component', COMPONENT, component, { reasons }),
    ...(['audit', 'revisions'] as const).map((kind) =>
      wanted('index', `spantrail-${kind}`, indexTemplate(indexPattern(kind), TEMPLATE_PRIORITY)),
    ),
  ];
}

/**
 * Gives new indices of a namespace the alias `spantrail-audit-<namespace>`. The longer name has the higher priority, because
 * the pattern of `eu` also fits the indices of `eu-west`.
 */
export function wantedAlias(namespace: string): WantedTemplate {
  const alias = namespacePrefix('audit', namespace);
  const content = indexTemplate(indexPattern('audit', namespace), TEMPLATE_PRIORITY + alias.length);
  return wanted('index', alias, { ...content, template: { aliases: { [alias]: {} } } });
}

function indexTemplate(pattern: string, priority: number): Content {
  return {
    index_patterns: [pattern],
    composed_of: [COMPONENT, CUSTOM_COMPONENT],
    ignore_missing_component_templates: [CUSTOM_COMPONENT],
    priority,
  };
}

function wanted(kind: WantedTemplate['kind'], name: string, content: Content, meta: object = {}): WantedTemplate {
  return {
    ...{ name, kind, content },
    meta: { managed_by: 'spantrail', schema_version: SCHEMA_VERSION, digest: digestOf(content), ...meta },
  };
}

/** A template as the server returns it. */
export type InstalledTemplate = Readonly<Record<string, unknown>> & {
  readonly _meta?: Readonly<Record<string, unknown>>;
};

/**
 * `changed`: it is not what a Spantrail wrote; somebody else's work, which is left alone. `newer`: of a Spantrail with a later
 * schema. `outdated`: of an older one, of other settings, or of a set-up that broke off.
 */
export type TemplateState = 'missing' | 'changed' | 'newer' | 'outdated' | 'current';

export function templateState(wantedOne: WantedTemplate, installed: InstalledTemplate | undefined): TemplateState {
  if (installed === undefined) return 'missing';
  const { managed_by, digest, schema_version } = installed._meta ?? {};
  if (managed_by !== 'spantrail') return 'changed';
  // An empty one is written before the set-up is complete; before there were such digests nobody could tell.
  const isTelling = typeof digest === 'string' && digest.startsWith(DIGEST_PREFIX);
  if (isTelling && digest !== digestOf(contentOf(installed))) return 'changed';
  if (Number(schema_version ?? 0) > SCHEMA_VERSION) return 'newer';
  return digest === wantedOne.meta['digest'] ? 'current' : 'outdated';
}

/** Names and values of what is not as it should be, e.g. `index.number_of_replicas is 2 (0)`; at most this many. */
export function templateDifferences(wantedOne: WantedTemplate, installed: InstalledTemplate, max: number): string[] {
  const should = flatten(wantedOne.content);
  const is = flatten(contentOf(installed));
  const paths = [...new Set([...should.keys(), ...is.keys()])].filter((path) => should.get(path) !== is.get(path));
  const named = paths.slice(0, max).map((path) => {
    const name = path.replace(/^template\.(settings\.)?/, '');
    return `${name} is ${is.get(path) ?? 'gone'} (${should.get(path) ?? 'nothing'})`;
  });
  return paths.length > max ? [...named, `and ${paths.length - max} more`] : named;
}

/** Without what tells of the template; servers add dates of their own to what they return. */
function contentOf(installed: InstalledTemplate): Content {
  const { _meta, version, created_date_millis, modified_date_millis, created_date, modified_date, ...content } =
    installed;
  return content;
}

/**
 * The same for two ways to write the same template: a server returns settings nested and as texts, whatever they were sent
 * as, and in another order.
 */
function digestOf(content: Content): string {
  const lines = [...flatten(content)].map(([path, value]) => `${path}=${value}`).sort();
  return `${DIGEST_PREFIX}${createHash('sha256').update(lines.join('\n')).digest('hex').slice(0, 32)}`;
}

function flatten(value: unknown, path = '', found = new Map<string, string>()): Map<string, string> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    const entries = Object.entries(value);
    for (const [key, inner] of entries) flatten(inner, path === '' ? key : `${path}.${key}`, found);
    if (entries.length === 0) found.set(path, '{}');
  } else {
    found.set(path, Array.isArray(value) ? JSON.stringify(value.map(String)) : String(value));
  }
  return found;
}
