/**
 * The catalogue of the record's fields that can be queried: one table from which the Elasticsearch mapping, the DuckDB
 * columns, the query checks, the CSV export and the API's field list come. Names are the record's own (see record.ts).
 */

/**
 * - `keyword`: exact, case-sensitive text; `*` is a wildcard
 * - `text`: words, letter runs without regard to case (the sentence)
 * - `date`: epoch nanoseconds, written as RFC 3339
 * - `duration`: nanoseconds; queries may say `41ms`, `2s`
 */
export type FieldType = 'keyword' | 'text' | 'date' | 'duration' | 'long' | 'double' | 'boolean' | 'ip';

export interface Field {
  readonly name: string;
  readonly type: FieldType;
  /** The record may hold several values here; a condition holds when any of them fits. */
  readonly many: boolean;
  /** DuckDB keeps this field in a column of its own; the others are read out of the stored JSON. */
  readonly hot: boolean;
  /** A bare word of a query is looked for here. */
  readonly bare: boolean;
}

type Flag = 'many' | 'hot' | 'bare';

function field(name: string, type: FieldType, ...flags: Flag[]): Field {
  return {
    name,
    type,
    many: flags.includes('many'),
    hot: flags.includes('hot'),
    bare: flags.includes('bare'),
  };
}

export const FIELDS: readonly Field[] = [
  field('@timestamp', 'date', 'hot'),
  field('message', 'text', 'hot', 'bare'),
  field('data_stream.namespace', 'keyword', 'hot'),
  field('event.id', 'keyword', 'hot', 'bare'),
  field('event.action', 'keyword', 'hot', 'bare'),
  field('event.category', 'keyword', 'many', 'hot'),
  field('event.type', 'keyword', 'many', 'hot'),
  field('event.kind', 'keyword'),
  field('event.outcome', 'keyword', 'hot', 'bare'),
  field('event.reason', 'keyword', 'hot', 'bare'),
  field('event.start', 'date'),
  field('event.end', 'date'),
  field('event.created', 'date'),
  field('event.ingested', 'date'),
  field('event.duration', 'duration', 'hot'),
  field('user.id', 'keyword', 'hot', 'bare'),
  field('user.name', 'keyword', 'hot', 'bare'),
  field('user.email', 'keyword', 'bare'),
  field('user.roles', 'keyword', 'many', 'hot'),
  field('user.group.name', 'keyword'),
  field('user.domain', 'keyword'),
  field('user.effective.id', 'keyword', 'bare'),
  field('user.effective.name', 'keyword', 'bare'),
  field('rule.id', 'keyword', 'bare'),
  field('rule.name', 'keyword', 'bare'),
  field('source.ip', 'ip', 'hot', 'bare'),
  field('source.port', 'long'),
  field('source.geo.country_iso_code', 'keyword'),
  field('source.geo.city_name', 'keyword'),
  field('source.as.number', 'long'),
  field('source.as.organization.name', 'keyword'),
  field('user_agent.original', 'keyword'),
  field('session.id', 'keyword'),
  field('service.name', 'keyword', 'hot', 'bare'),
  field('service.namespace', 'keyword'),
  field('service.version', 'keyword'),
  field('service.node.name', 'keyword'),
  field('host.name', 'keyword', 'bare'),
  field('container.id', 'keyword'),
  field('orchestrator.cluster.name', 'keyword'),
  field('orchestrator.namespace', 'keyword'),
  field('orchestrator.resource.name', 'keyword'),
  field('http.request.method', 'keyword'),
  field('http.request.body.bytes', 'long'),
  field('http.response.status_code', 'long', 'hot'),
  field('http.response.body.bytes', 'long'),
  field('http.route', 'keyword'),
  field('url.path', 'keyword'),
  field('url.query', 'keyword'),
  field('url.full', 'keyword'),
  field('url.domain', 'keyword'),
  field('url.scheme', 'keyword'),
  field('db.system', 'keyword'),
  field('db.namespace', 'keyword'),
  field('db.collection', 'keyword'),
  field('db.operation', 'keyword'),
  field('db.statement', 'keyword'),
  field('db.status_code', 'keyword'),
  field('rpc.system', 'keyword'),
  field('rpc.service', 'keyword'),
  field('rpc.method', 'keyword'),
  field('rpc.status_code', 'keyword'),
  field('messaging.system', 'keyword'),
  field('messaging.destination', 'keyword'),
  field('messaging.operation', 'keyword'),
  field('messaging.message_id', 'keyword'),
  field('file.path', 'keyword'),
  field('file.name', 'keyword'),
  field('gen_ai.tool.name', 'keyword'),
  field('gen_ai.agent.id', 'keyword'),
  field('gen_ai.agent.name', 'keyword', 'bare'),
  field('trace.id', 'keyword', 'hot', 'bare'),
  field('span.id', 'keyword', 'bare'),
  field('parent.id', 'keyword'),
  field('transaction.id', 'keyword'),
  field('error.type', 'keyword', 'hot', 'bare'),
  field('error.message', 'keyword'),
  field('error.stack_trace', 'keyword'),
  field('related.user', 'keyword', 'many'),
  field('related.ip', 'ip', 'many'),
  field('related.hosts', 'keyword', 'many'),
  field('audit.schema_version', 'long'),
  field('audit.entry', 'boolean', 'hot'),
  field('audit.entry_id', 'keyword', 'hot'),
  field('audit.entry_action', 'keyword'),
  field('audit.entry_target', 'keyword', 'hot', 'bare'),
  field('audit.actor.type', 'keyword', 'hot'),
  field('audit.actor.attribution', 'keyword'),
  field('audit.actor.verified', 'boolean'),
  field('audit.actor.relation', 'keyword'),
  field('audit.actor.claimed', 'keyword', 'bare'),
  field('audit.target.type', 'keyword', 'hot'),
  field('audit.target.id', 'keyword', 'hot', 'bare'),
  field('audit.target.name', 'keyword', 'hot', 'bare'),
  field('audit.target.service', 'keyword'),
  field('audit.decision', 'keyword', 'hot'),
  field('audit.why.source', 'keyword'),
  field('audit.denied_by', 'keyword'),
  field('audit.checks.permission', 'keyword', 'many'),
  field('audit.checks.target', 'keyword', 'many'),
  field('audit.checks.granted', 'boolean', 'many'),
  field('audit.checks.rule', 'keyword', 'many'),
  field('audit.checks.span_id', 'keyword', 'many'),
  field('audit.checks.duration', 'duration', 'many'),
  field('audit.checks.engine', 'keyword', 'many'),
  field('audit.checks.inferred', 'boolean', 'many'),
  field('audit.purpose', 'keyword'),
  field('audit.rows', 'long'),
  field('audit.trace.root.service', 'keyword'),
  field('audit.trace.root.name', 'keyword'),
  field('audit.trace.duration', 'duration', 'hot'),
  field('audit.trace.span_count', 'long'),
  field('audit.trace.error_count', 'long'),
  field('audit.trace.services', 'keyword', 'many', 'hot'),
  field('audit.trace.self_time', 'duration'),
  field('audit.error_origin.service', 'keyword', 'hot'),
  field('audit.error_origin.name', 'keyword'),
  field('audit.error_origin.span_id', 'keyword'),
  field('audit.error_origin.type', 'keyword'),
  field('audit.error_origin.message', 'keyword'),
  field('audit.path.service', 'keyword', 'many'),
  field('audit.path.name', 'keyword', 'many'),
  field('audit.path.span_id', 'keyword', 'many'),
  field('audit.path.status', 'keyword', 'many'),
  field('audit.db.count', 'long'),
  field('audit.db.duration', 'duration'),
  field('audit.db.slowest', 'keyword'),
  field('audit.pressure.state', 'keyword'),
  field('audit.pressure.metric', 'keyword'),
  field('audit.pressure.value', 'double'),
  field('audit.pressure.limit', 'double'),
  field('audit.pressure.ratio', 'double'),
  field('audit.pressure.metrics.name', 'keyword', 'many'),
  field('audit.pressure.metrics.of', 'keyword', 'many'),
  field('audit.join.state', 'keyword', 'hot'),
  field('audit.join.tie', 'keyword'),
  field('audit.join.spans', 'long'),
  field('audit.join.missing_parents', 'long'),
  field('audit.join.orphans', 'long'),
  field('audit.join.conflicts', 'keyword', 'many'),
  field('audit.join.reason', 'keyword'),
  field('audit.join.late', 'boolean'),
  field('audit.revision', 'long'),
  field('audit.revised_at', 'date'),
  field('audit.supersedes', 'long'),
  field('audit.superseded_by', 'keyword', 'hot'),
  field('audit.evidence.signal', 'keyword', 'many'),
  field('audit.evidence.source', 'keyword', 'many'),
  field('audit.evidence.sender', 'keyword', 'many'),
  field('audit.evidence.id', 'keyword', 'many'),
];

const BY_NAME: ReadonlyMap<string, Field> = new Map(FIELDS.map((entry) => [entry.name, entry]));

export function findField(name: string): Field | undefined {
  return BY_NAME.get(name);
}

export type FieldValue = string | number | boolean;

/**
 * The values that a record holds in a field, flattened through arrays; empty when it holds none. `record` is any JSON
 * document in the shape of AuditRecord.
 */
export function fieldValues(record: object, name: string): FieldValue[] {
  let level: unknown[] = [record];
  for (const key of name.split('.')) {
    const next: unknown[] = [];
    for (const node of level) {
      if (typeof node !== 'object' || node === null) continue;
      const child = (node as Record<string, unknown>)[key];
      if (Array.isArray(child)) next.push(...child);
      else if (child !== undefined && child !== null) next.push(child);
    }
    level = next;
  }
  return level.filter((value): value is FieldValue => typeof value !== 'object');
}
