import { hash } from 'node:crypto';
import { FIELDS, type Field } from '../../core/fields.ts';

/** Version of the tables below. A database of a newer version is refused, of an older one upgraded in `setUp`. */
export const TABLES_VERSION = 3;

/** Lists whose items are objects; in all other fields with several values the last name of the path holds the list. */
const OBJECT_LISTS = ['audit.checks', 'audit.path', 'audit.evidence'];

/**
 * Fields in columns of their own, named as the field: the hot ones, and all addresses as 128-bit keys, because SQL has no
 * other order for them. Three hot fields are kept in another form: `event.id` is `id`, `message` is `letters` (its letter
 * runs), and `@timestamp` is epoch nanoseconds. Other dates stay RFC 3339 text, whose order is theirs.
 */
export const COLUMN_FIELDS: readonly Field[] = FIELDS.filter(
  (field) =>
    (field.hot && field.type !== 'date' && field.type !== 'text' && field.name !== 'event.id') || field.type === 'ip',
);

/** Bare fields without a column: their values share the list column `bare`. */
export const BARE_FIELDS: readonly Field[] = FIELDS.filter(
  (field) => field.bare && !field.hot && !field.many && field.type === 'keyword',
);

/**
 * Where a document stands, or what is in the gaps of its form: in one of these columns, and null in the others. Entries, which most pages
 * are of, by turns in the first two, others in the last two. What zstd packs is unpacked 2048 rows at a time: of entries that lie far
 * apart a page unpacks a tenth of the texts beside them. The first column is the one that tables of version 1 have.
 */
export const DOCUMENT_LANES: readonly string[] = ['doc', 'doc1', 'doc2', 'doc3'];

/** Of a row of `records` the document, or with a form the texts of its gaps; as SQL. */
export const LANE_TEXT = `coalesce(${DOCUMENT_LANES.join(', ')})`;

/** Stands between the parts of a form, and between the texts of its gaps: no JSON text has this character as it is. */
export const SEPARATOR = '\x1f';

/** The document of a row of what `recordsSql` gives, as SQL. */
export const DOCUMENT = 'whole_document';

/** Parts and texts by turns. Made for each form once: its parts, and which of a row's texts stands behind each. */
const FORMS = `(SELECT number, string_split(parts, chr(31)) AS parts, string_split(places, ',')::BIGINT[] AS places FROM forms)`;
const FILLED_FORM = `array_to_string(list_transform(list_zip(f.parts, list_select(string_split(${LANE_TEXT}, chr(31)), f.places)),
  lambda x: concat(x[1], x[2])), '')`;
const WHOLE_RECORDS = `(SELECT r.*, r.rowid AS rowid, CASE WHEN r.form IS NULL THEN ${LANE_TEXT} ELSE ${FILLED_FORM} END AS ${DOCUMENT}
  FROM records r LEFT JOIN ${FORMS} f ON f.number = r.form) AS records`;

/** What to select from for these pieces of SQL: records, with documents only where one of them asks for those. */
export function recordsSql(...pieces: readonly string[]): string {
  return pieces.some((piece) => piece.includes(DOCUMENT)) ? WHOLE_RECORDS : 'records';
}

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

/** SQL for the value of a field in the document: text, or a list of texts. Names come from the catalogue only. */
export function extractSql(field: Field): string {
  const list = OBJECT_LISTS.find((name) => field.name.startsWith(`${name}.`));
  if (!field.many) return `json_extract_string(${DOCUMENT}, '${jsonPath(field.name)}')`;
  if (list === undefined) return `json_extract_string(${DOCUMENT}, '${jsonPath(field.name)}[*]')`;
  return `json_extract_string(${DOCUMENT}, '${jsonPath(list)}[*]${jsonPath(field.name.slice(list.length + 1)).slice(1)}')`;
}

export function sqlType(field: Field): string {
  if (field.type === 'boolean') return 'BOOLEAN';
  if (field.type === 'double') return 'DOUBLE';
  return field.type === 'long' || field.type === 'duration' ? 'BIGINT' : 'VARCHAR';
}

/** The field that is looked for most: `user_key` holds 32 bits of a digest of it, which are compared far faster than texts. */
export const KEYED_FIELD = 'user.id';

/** What `user_key` holds where the field has this value. */
export function keyOf(value: string): bigint {
  return BigInt(`0x${hash('sha256', value).slice(0, KEY_DIGITS)}`);
}

const KEY_DIGITS = 8;
const KEY_SQL = `('0x' || left(sha256("${KEYED_FIELD}"), ${KEY_DIGITS}))::BIGINT`;

/**
 * Columns of `records` that later versions added; `lane` is the place in `DOCUMENT_LANES`, null for the first one in older rows;
 * `form` is a number in the table `forms`, null where the document is whole.
 */
const COLUMNS_2 = [
  ...DOCUMENT_LANES.slice(1).map((name) => `${name} VARCHAR USING COMPRESSION zstd`),
  'lane BIGINT',
  'user_key BIGINT',
];

const COLUMN_3 = 'form BIGINT';

/** By the version that they make: statements for tables of the version before. */
export const UPGRADE_TABLES: ReadonlyMap<number, readonly string[]> = new Map([
  [
    2,
    [
      `ALTER TABLE records ALTER ${DOCUMENT_LANES[0]} DROP NOT NULL`,
      ...COLUMNS_2.map((column) => `ALTER TABLE records ADD COLUMN IF NOT EXISTS ${column}`),
      `ALTER TABLE records ALTER user_key TYPE BIGINT USING ${KEY_SQL}`,
    ],
  ],
  [3, ['records', 'revisions'].map((table) => `ALTER TABLE ${table} ADD COLUMN IF NOT EXISTS ${COLUMN_3}`)],
]);

/**
 * Tables, in the order in which they are made. `revisions` keeps what was replaced; `staging` is this process's own;
 * `recent_writes` tells where the last writes put their records. `forms` has what documents of one form share: nearly all of them.
 * Documents of one kind repeat each other: zstd keeps them in a seventh of the space that DuckDB's default needs. Forms lie as they are:
 * a page wants some of them only, and zstd would unpack 2048 for each.
 */
export const CREATE_TABLES: readonly string[] = [
  'CREATE TABLE IF NOT EXISTS meta (name VARCHAR PRIMARY KEY, value VARCHAR NOT NULL)',
  `CREATE TABLE IF NOT EXISTS records (
    id VARCHAR NOT NULL, rank BIGINT NOT NULL, "@timestamp" BIGINT NOT NULL, letters VARCHAR, bare VARCHAR[],
    ${COLUMN_FIELDS.map((field) => `${quoted(field.name)} ${sqlType(field)}${field.many ? '[]' : ''}`).join(', ')},
    ${DOCUMENT_LANES[0]} VARCHAR USING COMPRESSION zstd, ${[...COLUMNS_2, COLUMN_3].join(', ')})`,
  `CREATE TABLE IF NOT EXISTS revisions (id VARCHAR NOT NULL, rank BIGINT NOT NULL,
    doc VARCHAR NOT NULL USING COMPRESSION zstd, ${COLUMN_3})`,
  `CREATE TABLE IF NOT EXISTS forms (number BIGINT NOT NULL, digest VARCHAR NOT NULL,
    parts VARCHAR NOT NULL USING COMPRESSION uncompressed, places VARCHAR NOT NULL)`,
  'CREATE TABLE IF NOT EXISTS recent_writes (run BIGINT NOT NULL, number BIGINT NOT NULL, id VARCHAR NOT NULL, "@timestamp" BIGINT NOT NULL)',
];

/** What is looked up of a batch: ids that may be there already. */
export const CREATE_STAGING = 'CREATE TEMP TABLE IF NOT EXISTS staging (id VARCHAR, rank BIGINT)';

function jsonPath(name: string): string {
  return `$${name
    .split('.')
    .map((key) => `."${key}"`)
    .join('')}`;
}

function quoted(name: string): string {
  return `"${name}"`;
}
