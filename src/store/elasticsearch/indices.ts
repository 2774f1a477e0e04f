import { createHash } from 'node:crypto';
import type { estypes } from '@elastic/elasticsearch';
import { formatTimestamp } from '../../core/clock.ts';
import { FIELDS, type FieldType } from '../../core/fields.ts';
import { SCHEMA_VERSION } from '../../core/record.ts';
import type { Connection, ElasticsearchSettings } from './connection.ts';

/** Current records, and the earlier states of records that were replaced. */
type IndexKind = 'audit' | 'revisions';

export type IndexPeriod = ElasticsearchSettings['indexPeriod'];

/** Above the templates that the stack brings (100 to 200), so that ours win. */
const TEMPLATE_PRIORITY = 300;

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

/** Index of a record: by namespace and UTC period of its `@timestamp`, e.g. `spantrail-audit-default-2026.11.22`. */
export function indexName(namespace: string, timestampNs: bigint, period: IndexPeriod): string {
  return `${namespacePrefix('audit', namespace)}-${periodName(timestampNs, period)}`;
}

/** What a read names: every index of a namespace, or of all of them. Matching none is no error. */
export function indexPattern(kind: IndexKind, namespace?: string): string {
  return namespace === undefined ? `spantrail-${kind}-*` : `${namespacePrefix(kind, namespace)}-*`;
}

/** Where an earlier state is kept: beside its own period, so that both are retired together. */
export function revisionsIndexOf(auditIndex: string): string {
  return auditIndex.replace('spantrail-audit-', 'spantrail-revisions-');
}

function namespacePrefix(kind: IndexKind, namespace: string): string {
  return `spantrail-${kind}-${namespace.toLowerCase().replace(/[^a-z0-9_-]/g, '_')}`;
}

function periodName(timestampNs: bigint, period: IndexPeriod): string {
  const day = formatTimestamp(timestampNs).slice(0, 10);
  if (period === 'day') return day.replaceAll('-', '.');
  if (period === 'month') return day.slice(0, 7).replace('-', '.');
  // ISO 8601: a week belongs to the year of its Thursday.
  const thursday = new Date(`${day}T00:00:00Z`);
  thursday.setUTCDate(thursday.getUTCDate() + 4 - (thursday.getUTCDay() || 7));
  const days = (thursday.getTime() - Date.UTC(thursday.getUTCFullYear(), 0, 1)) / 86_400_000;
  return `${thursday.getUTCFullYear()}.w${String(Math.floor(days / 7) + 1).padStart(2, '0')}`;
}

type Properties = Record<string, estypes.MappingProperty>;

/** The catalogue of fields as a mapping. Whatever else a record holds is stored and shown, but not indexed. */
function mapping(): estypes.MappingTypeMapping & { properties: Properties } {
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
  return { dynamic: false, properties };
}

function indexSettings(settings: ElasticsearchSettings): estypes.IndicesIndexSettings {
  return {
    mode: 'logsdb',
    // The record must come back as it was written; a synthesised source flattens arrays of objects.
    'mapping.source.mode': 'stored',
    sort: { field: ['@timestamp'], order: ['desc'] },
    number_of_replicas: settings.replicas,
    refresh_interval: `${settings.refreshIntervalMs}ms`,
    // Acknowledged writes are on disk.
    'translog.durability': 'request',
    // How long the deleted copy of a record that moved to another day still turns down an outranked write.
    gc_deletes: '1h',
  };
}

/**
 * Installs or upgrades the templates; existing indices get the fields that are new. May run on every start. An older
 * Spantrail leaves the templates of a newer one alone.
 */
export async function setUpIndices(connection: Connection, settings: ElasticsearchSettings): Promise<void> {
  const template = { mappings: mapping(), settings: { index: indexSettings(settings) } };
  const digest = createHash('sha256').update(JSON.stringify(template)).digest('hex').slice(0, 16);
  const _meta = { managed_by: 'spantrail', schema_version: SCHEMA_VERSION, digest };
  const installed = await connection.request((client) =>
    client.cluster.getComponentTemplate({ name: 'spantrail' }, { ignore: [404] }),
  );
  // Some servers refuse `@timestamp` here, as logsdb brings it; it never changes.
  const { '@timestamp': _, ...properties } = template.mappings.properties;
  const known = installed.component_templates?.[0]?.component_template._meta;
  if (known?.['digest'] === digest || Number(known?.['schema_version'] ?? 0) > SCHEMA_VERSION) return;
  await connection.request(async (client) => {
    // The digest vouches for all of it, so the component template that carries it is complete only after the others.
    const first = { ..._meta, digest: '' };
    await client.cluster.putComponentTemplate({ name: 'spantrail', template, version: SCHEMA_VERSION, _meta: first });
    for (const kind of ['audit', 'revisions'] as const) {
      await client.indices.putIndexTemplate({
        name: `spantrail-${kind}`,
        index_patterns: [indexPattern(kind)],
        composed_of: ['spantrail'],
        priority: TEMPLATE_PRIORITY,
        version: SCHEMA_VERSION,
        _meta,
      });
      // An index that cannot take a field keeps what it has: its records stay readable.
      await client.indices.putMapping({ index: indexPattern(kind), properties }, { ignore: [400, 404] });
    }
    await client.cluster.putComponentTemplate({ name: 'spantrail', template, version: SCHEMA_VERSION, _meta });
  });
}

/**
 * Gives new indices of a namespace the alias `spantrail-audit-<namespace>`. A convenience for people: reads here go by index
 * name, so a user who may write but not change templates does without. The longer name has the higher priority, because
 * the pattern of `eu` also fits the indices of `eu-west`.
 */
export async function setUpAlias(connection: Connection, namespace: string): Promise<void> {
  const alias = namespacePrefix('audit', namespace);
  await connection.request((client) =>
    client.indices.putIndexTemplate(
      {
        name: alias,
        index_patterns: [indexPattern('audit', namespace)],
        composed_of: ['spantrail'],
        priority: TEMPLATE_PRIORITY + alias.length,
        template: { aliases: { [alias]: {} } },
        version: SCHEMA_VERSION,
        _meta: { managed_by: 'spantrail' },
      },
      { ignore: [400, 403, 404, 405] },
    ),
  );
}
