import { FIELDS, type Field } from '../../core/fields.ts';

/** Version of the tables below. A database of a newer version is refused, of an older one upgraded in `setUp`. */
export const TABLES_VERSION = 1;

/** Lists whose items are objects; in all other fields with several values the last name of the path holds the list. */
const OBJECT_LISTS = ['audit.checks', 'audit.path', 'audit.evidence'];

/**
 * Fields in columns of their own, named as the field: the hot ones, and all addresses as 128-bit keys, because SQL has no
 * other order for them. Three hot fields are kept in another form: `event.id` is `id`, `message` is `letters` (its letter
 * runs), and `@timestamp` is epoch nanoseconds. Other dates stay RFC 3339 text, whose order is theirs.
 */
const COLUMN_FIELDS = FIELDS.filter(
  (field) =>
    (field.hot && field.type !== 'date' && field.type !== 'text' && field.name !== 'event.id') || field.type === 'ip',
);

/** Bare fields without a column: their values share the list column `bare`. */
const BARE_FIELDS = FIELDS.filter((field) => field.bare && !field.hot && !field.many && field.type === 'keyword');

const COLUMN_NAMES: ReadonlyMap<string, string> = new Map([
  ...COLUMN_FIELDS.map((field) => [field.name, quoted(field.name)] as const),
  ['@timestamp', quoted('@timestamp')],
  ['event.id', 'id'],
  ['message', 'letters'],
]);

/** The column that holds a field, as SQL; undefined when the field is only in the document. */
export function columnOf(field: Field): string | undefined {
  return COLUMN_NAMES.get(field.name);
}

/** SQL for the value of a field in the JSON column `doc`: text, or a list of texts. Names come from the catalogue only. */
export function extractSql(field: Field): string {
  const list = OBJECT_LISTS.find((name) => field.name.startsWith(`${name}.`));
  if (!field.many) return `json_extract_string(doc, '${jsonPath(field.name)}')`;
  if (list === undefined) return `json_extract_string(doc, '${jsonPath(field.name)}[*]')`;
  return `json_extract_string(doc, '${jsonPath(list)}[*]${jsonPath(field.name.slice(list.length + 1)).slice(1)}')`;
}

export function sqlType(field: Field): string {
  if (field.type === 'boolean') return 'BOOLEAN';
  if (field.type === 'double') return 'DOUBLE';
  return field.type === 'long' || field.type === 'duration' ? 'BIGINT' : 'VARCHAR';
}

/**
 * Tables, in the order in which they are made. `revisions` keeps what was replaced; `staging` is this process's own;
 * `recent_writes` tells where the last writes put their records.
 * Documents of one kind repeat each other: zstd keeps them in a seventh of the space that DuckDB's default needs.
 */
export const CREATE_TABLES: readonly string[] = [
  'CREATE TABLE IF NOT EXISTS meta (name VARCHAR PRIMARY KEY, value VARCHAR NOT NULL)',
  `CREATE TABLE IF NOT EXISTS records (
    id VARCHAR NOT NULL, rank BIGINT NOT NULL, "@timestamp" BIGINT NOT NULL, letters VARCHAR, bare VARCHAR[],
    ${COLUMN_FIELDS.map((field) => `${quoted(field.name)} ${sqlType(field)}${field.many ? '[]' : ''}`).join(', ')},
    doc VARCHAR NOT NULL USING COMPRESSION zstd)`,
  'CREATE TABLE IF NOT EXISTS revisions (id VARCHAR NOT NULL, rank BIGINT NOT NULL, doc VARCHAR NOT NULL USING COMPRESSION zstd)',
  'CREATE TABLE IF NOT EXISTS recent_writes (run BIGINT NOT NULL, number BIGINT NOT NULL, id VARCHAR NOT NULL, "@timestamp" BIGINT NOT NULL)',
];

/** Addresses come as keys from the writer: one text, or several joined by a blank. */
const IP_FIELDS = FIELDS.filter((field) => field.type === 'ip');

export const STAGING_FIELDS: readonly Field[] = IP_FIELDS;

export const CREATE_STAGING = `CREATE TEMP TABLE IF NOT EXISTS staging (
  id VARCHAR, rank BIGINT, "@timestamp" BIGINT, letters VARCHAR, doc VARCHAR,
  ${IP_FIELDS.map((field) => `${quoted(field.name)} VARCHAR`).join(', ')})`;

/** Values are read out of the document in one pass: DuckDB parses it once for a list of paths. Lists come as JSON text. */
const ONE_PASS = [...COLUMN_FIELDS.filter((field) => field.type !== 'ip'), ...BARE_FIELDS];

/** Moves what is staged into `records`, with every column filled from the document. */
export const INSERT_STAGED = `INSERT INTO records (id, rank, "@timestamp", letters, doc, bare,
    ${COLUMN_FIELDS.map((field) => quoted(field.name)).join(', ')})
  SELECT id, rank, "@timestamp", letters, doc,
    list_filter([${BARE_FIELDS.map((field) => pick(field)).join(', ')}], lambda x: x IS NOT NULL),
    ${COLUMN_FIELDS.map((field) => columnValue(field)).join(', ')}
  FROM (SELECT *, json_extract_string(doc, [${ONE_PASS.map((field) => `'${jsonPath(field.name)}'`).join(', ')}]) AS picked
    FROM staging)`;

function columnValue(field: Field): string {
  if (field.type === 'ip') return field.many ? `string_split(${quoted(field.name)}, ' ')` : quoted(field.name);
  if (field.many) return `CAST(CAST(${pick(field)} AS JSON) AS ${sqlType(field)}[])`;
  return sqlType(field) === 'VARCHAR' ? pick(field) : `TRY_CAST(${pick(field)} AS ${sqlType(field)})`;
}

/** A value of the one-pass list; DuckDB counts list items from 1. */
function pick(field: Field): string {
  return `picked[${ONE_PASS.indexOf(field) + 1}]`;
}

function jsonPath(name: string): string {
  return `$${name
    .split('.')
    .map((key) => `."${key}"`)
    .join('')}`;
}

function quoted(name: string): string {
  return `"${name}"`;
}
