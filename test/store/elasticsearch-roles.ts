import type { Client } from '@elastic/elasticsearch';
import type { SecureUser } from '../setup/elasticsearch-secure.ts';

/** Index of the records of November 22nd 2026 in the namespace of these tests, and of what was revised. */
export const AUDIT = 'spantrail-audit-rights-2026.11.22';
export const REVISIONS = 'spantrail-revisions-rights-2026.11.22';

const SPANTRAIL = ['writer', 'sweeper'] as const;
const READERS = [...SPANTRAIL, 'reader'] as const;
const ADMINISTRATOR = ['administrator'] as const;
const NOBODY = [] as const;
const MONITORS = [...SPANTRAIL, ...ADMINISTRATOR] as const;

interface Call {
  readonly what: string;
  readonly method: string;
  readonly path: string;
  readonly body?: object;
  /** Lines of a bulk request. */
  readonly lines?: readonly object[];
  readonly may: readonly SecureUser[];
}

const record = (id: string) => ({ '@timestamp': '2026-11-22T10:00:00Z', event: { id } });

/** A call of every kind that a role could be misused for, and who may make it. Whoever is not named must be refused. */
export const CALLS: readonly Call[] = [
  { what: 'search records', method: 'POST', path: `/${AUDIT}/_search`, body: { size: 1 }, may: READERS },
  { what: 'search by alias', method: 'POST', path: '/spantrail-audit-rights/_search', body: { size: 1 }, may: READERS },
  { what: 'read one by id', method: 'GET', path: `/${AUDIT}/_doc/kept`, may: READERS },
  { what: 'search earlier states', method: 'POST', path: `/${REVISIONS}/_search`, body: { size: 1 }, may: READERS },
  { what: 'freeze a reading', method: 'POST', path: `/${AUDIT}/_pit?keep_alive=1s`, may: READERS },
  { what: 'count', method: 'GET', path: `/${AUDIT}/_count`, may: READERS },
  { what: 'read the mapping', method: 'GET', path: `/${AUDIT}/_mapping`, may: [...READERS, 'administrator'] },
  { what: 'write a record', method: 'PUT', path: `/${AUDIT}/_doc/tried`, body: record('tried'), may: SPANTRAIL },
  {
    what: 'write in bulk',
    method: 'POST',
    path: `/${AUDIT}/_bulk`,
    lines: [{ index: { _id: 'tried' } }, record('tried')],
    may: SPANTRAIL,
  },
  {
    what: 'write into an index that is new',
    method: 'PUT',
    path: '/spantrail-audit-rights-2026.11.23/_doc/tried',
    body: record('tried'),
    may: SPANTRAIL,
  },
  { what: 'delete a record', method: 'DELETE', path: `/${AUDIT}/_doc/tried`, may: SPANTRAIL },
  { what: 'refresh', method: 'POST', path: `/${AUDIT}/_refresh`, may: [...SPANTRAIL, ...ADMINISTRATOR] },
  {
    what: 'keep an earlier state',
    method: 'POST',
    path: `/${REVISIONS}/_bulk`,
    lines: [{ create: { _id: 'tried' } }, record('tried')],
    may: SPANTRAIL,
  },
  {
    what: 'overwrite an earlier state',
    method: 'PUT',
    path: `/${REVISIONS}/_doc/kept`,
    body: record('forged'),
    may: NOBODY,
  },
  {
    what: 'overwrite an earlier state in bulk',
    method: 'POST',
    path: `/${REVISIONS}/_bulk`,
    lines: [{ index: { _id: 'kept' } }, record('forged')],
    may: NOBODY,
  },
  { what: 'delete an earlier state', method: 'DELETE', path: `/${REVISIONS}/_doc/kept`, may: NOBODY },
  {
    what: 'write an alert',
    method: 'PUT',
    path: '/spantrail-alerts-rights/_doc/tried',
    body: { id: 'tried' },
    may: SPANTRAIL,
  },
  {
    what: 'make an index of their own',
    method: 'PUT',
    path: '/spantrail-audit-rights-2026.11.24',
    body: { mappings: { dynamic: true } },
    may: ADMINISTRATOR,
  },
  {
    what: 'change a mapping',
    method: 'PUT',
    path: `/${AUDIT}/_mapping`,
    body: { properties: { own: { type: 'keyword' } } },
    may: ADMINISTRATOR,
  },
  {
    what: 'change settings',
    method: 'PUT',
    path: `/${AUDIT}/_settings`,
    body: { 'index.blocks.write': null },
    may: ADMINISTRATOR,
  },
  {
    what: 'give an alias',
    method: 'POST',
    path: '/_aliases',
    body: { actions: [{ add: { index: AUDIT, alias: 'spantrail-audit-other' } }] },
    may: ADMINISTRATOR,
  },
  { what: 'close an index', method: 'POST', path: '/spantrail-audit-rights-2026.11.24/_close', may: ADMINISTRATOR },
  {
    what: 'delete an index',
    method: 'DELETE',
    path: '/spantrail-audit-rights-2026.11.24',
    may: ['sweeper', 'administrator'],
  },
  {
    what: 'delete kept states',
    method: 'DELETE',
    path: '/spantrail-revisions-rights-2020.01.01',
    may: ['sweeper', 'administrator'],
  },
  { what: 'read templates', method: 'GET', path: '/_component_template/spantrail', may: MONITORS },
  {
    what: 'change a component template',
    method: 'PUT',
    path: '/_component_template/spantrail-tried',
    body: { template: {} },
    may: ADMINISTRATOR,
  },
  {
    what: 'change an index template',
    method: 'PUT',
    path: '/_index_template/spantrail-tried',
    body: { index_patterns: ['spantrail-tried-*'] },
    may: ADMINISTRATOR,
  },
  { what: 'look at the nodes', method: 'GET', path: '/_nodes/_all/http', may: MONITORS },
  {
    what: 'change the cluster',
    method: 'PUT',
    path: '/_cluster/settings',
    body: { persistent: { 'cluster.max_shards_per_node': 5000 } },
    may: NOBODY,
  },
  {
    what: 'take a snapshot away',
    method: 'PUT',
    path: '/_snapshot/tried',
    body: { type: 'fs', settings: { location: '/tmp' } },
    may: NOBODY,
  },
  {
    what: 'put a pipeline before the records',
    method: 'PUT',
    path: '/_ingest/pipeline/tried',
    body: { processors: [] },
    may: NOBODY,
  },
  { what: 'make an API key', method: 'POST', path: '/_security/api_key', body: { name: 'tried' }, may: NOBODY },
  {
    what: 'make a role',
    method: 'PUT',
    path: '/_security/role/tried',
    body: { cluster: ['all'] },
    may: NOBODY,
  },
  { what: 'read others’ data', method: 'POST', path: '/orders/_search', body: { size: 1 }, may: NOBODY },
  { what: 'write others’ data', method: 'PUT', path: '/orders/_doc/tried', body: record('tried'), may: NOBODY },
  { what: 'delete others’ data', method: 'DELETE', path: '/orders', may: NOBODY },
];

/** The status of the answer; for a bulk request that of its one action. */
export async function statusOf(client: Client, { method, path, body, lines }: Call): Promise<number> {
  const bulkBody = lines?.map((line) => `${JSON.stringify(line)}\n`).join('');
  const { statusCode, body: answer } = await client.transport.request<{ items?: Record<string, { status: number }>[] }>(
    { method, path, ...(body && { body }), ...(bulkBody !== undefined && { bulkBody }) },
    { meta: true, ignore: [400, 401, 403, 404, 405, 409, 500] },
  );
  return Object.values(answer.items?.[0] ?? {})[0]?.status ?? statusCode ?? 0;
}
