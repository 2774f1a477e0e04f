import type { AlertMark, MarkedRecord } from '../api/alert-contract.ts';
import type { RecordsAnswer, RevisionsAnswer } from '../api/contract.ts';
import { AppError } from '../core/errors.ts';
import type { AuditRecord, Check } from '../core/record.ts';
import type { Client } from './client.ts';
import { formatDuration, type Paint, printable, SHORT_ID_LENGTH, sentenceLine } from './format.ts';

/** Fewer digits of an id would fit by chance. */
const PREFIX_LENGTH_MIN = 6;

/** The record with this id, or with the id that alone starts like this. */
export async function findRecord(client: Client, text: string): Promise<MarkedRecord> {
  const id = text.toLowerCase();
  if (!/^[0-9a-f]{1,32}$/.test(id))
    throw new AppError('not_found', `"${text}" is no record id: those are 32 hex digits`);
  if (id.length === 32) return client.get<MarkedRecord>(`/api/v1/records/${id}`);
  if (id.length < PREFIX_LENGTH_MIN) {
    throw new AppError('usage', `"${text}" is too short; give at least ${PREFIX_LENGTH_MIN} digits of the record id`);
  }
  const { records } = await client.get<RecordsAnswer>('/api/v1/records', {
    q: `event.id: ${id}*`,
    inner: true,
    limit: 2,
  });
  const [record, other] = records;
  if (!record) throw new AppError('not_found', `no record with an id that starts with ${id}`);
  if (other) throw new AppError('usage', `several records have an id that starts with ${id}; give more of it`);
  // A search does not tell what rests on it.
  return client.get<MarkedRecord>(`/api/v1/records/${record.event.id}`);
}

export async function findRevisions(client: Client, id: string): Promise<readonly AuditRecord[]> {
  const record = await findRecord(client, id);
  const answer = await client.get<RevisionsAnswer>(`/api/v1/records/${record.event.id}/revisions`);
  return answer.revisions;
}

/** The record in the order in which a person asks: what happened, who, what, outcome and why, from where, where, how long. */
export function recordText(record: MarkedRecord, paint: Paint): string {
  const rows: (readonly [string, string | undefined])[] = [
    ['when', `${record['@timestamp']}, took ${formatDuration(record.event.duration)}`],
    ['who', who(record)],
    ['did', `${record.event.action} (${record.event.category.join(', ')})`],
    ['to', `${record.audit.target.type} ${record.audit.target.id}${suffix(record.audit.target.name)}`],
    ['outcome', `${record.event.outcome}${record.audit.decision === 'none' ? '' : `, ${record.audit.decision}`}`],
    ['why', `${record.event.reason ?? 'not said'} (${record.audit.why.source})`],
    ['denied by', record.audit.denied_by],
    ['checks', record.audit.checks?.map(checkText).join('; ')],
    ['purpose', record.audit.purpose],
    ['from', from(record)],
    ['user agent', record.user_agent?.original],
    ['where', record.service?.name],
    [
      'inside',
      record.audit.entry_id && `${record.audit.entry_action} ${record.audit.entry_target} (${record.audit.entry_id})`,
    ],
    ['error', record.error && [record.error.type, record.error.message].filter(Boolean).join(': ')],
    ['error origin', origin(record)],
    ['statements', record.audit.db && `${record.audit.db.count}, ${formatDuration(record.audit.db.duration)}`],
    ['slowest', record.audit.db?.slowest],
    ['statement', record.db?.statement],
    ['pressure', pressureText(record)],
    ['request', record.audit.trace && traceText(record)],
    ['trace', record.trace?.id],
    ['join', joinText(record)],
    ...(record.alerts ?? []).map((alert) => ['alert', markText(alert)] as const),
    ['evidence', record.audit.evidence.map((piece) => `${piece.source} ${piece.id} (${piece.sender})`).join(', ')],
    ['record', `${record.event.id}, revision ${record.audit.revision}${revised(record)}`],
    ['superseded', record.audit.superseded_by && `by ${record.audit.superseded_by}`],
  ];
  const lines = rows
    .filter((row): row is readonly [string, string] => row[1] !== undefined && row[1] !== '')
    .map(([name, text]) => `${paint.dim(name.padStart(12))}  ${printable(text)}`);
  return [sentenceLine(record, paint), '', ...lines, ...pathLines(record, paint), ''].join('\n');
}

/** `high, open: alice failed to log in 5 times (3f2a9c01d4e5)` */
export function markText({ id, severity, state, reason }: AlertMark): string {
  return `${severity}, ${state}: ${reason} (${id.slice(0, SHORT_ID_LENGTH)})`;
}

/** `orders:read on order/7: refused by opa orders/allow, 41 ms`. */
function checkText({ permission, target, granted, inferred, engine, rule, duration }: Check): string {
  const asked = [permission, target && `on ${target}`].filter(Boolean).join(' ');
  const answer = `${granted ? 'granted' : 'refused'}${inferred ? ' (as what followed tells)' : ''}`;
  const by = [engine, rule].filter(Boolean).join(' ');
  const took = duration === undefined ? '' : `, ${formatDuration(duration)}`;
  return `${asked ? `${asked}: ` : ''}${answer}${by ? ` by ${by}` : ''}${took}`;
}

function suffix(name: string | undefined): string {
  return name === undefined ? '' : ` (${name})`;
}

function who(record: AuditRecord): string {
  const { actor } = record.audit;
  const name =
    record.user?.id ?? (actor.claimed === undefined ? 'nobody known' : `someone claiming to be ${actor.claimed}`);
  const roles = record.user?.roles?.join(', ');
  const proof = actor.verified ? 'verified' : 'not verified';
  return `${name}${roles ? ` [${roles}]` : ''}, a ${actor.type}; known from ${actor.attribution}, ${proof}`;
}

function from({ source }: AuditRecord): string | undefined {
  if (source?.ip === undefined) return undefined;
  const { geo, as: system } = source;
  const place = [geo?.city_name, geo?.country_iso_code].filter(Boolean).join(', ');
  const network = [system?.number && `AS${system.number}`, system?.organization?.name].filter(Boolean).join(' ');
  return [source.ip, place, network].filter(Boolean).join('; ');
}

/** What was nearest to its limit, and what else was near it. */
function pressureText({ audit }: AuditRecord): string | undefined {
  if (audit.pressure === undefined) return undefined;
  const { state, metrics } = audit.pressure;
  const told = metrics.map(({ name, value, limit, ratio, of }) => {
    const share = ratio === undefined ? '' : `, ${Math.round(ratio * 100)} %`;
    return `${name} ${value}${limit === undefined ? '' : ` of ${limit}${share}`} (${of})`;
  });
  return `${state}: ${told.join('; ')}`;
}

function origin(record: AuditRecord): string | undefined {
  const found = record.audit.error_origin;
  if (!found) return undefined;
  const words = [found.type, found.message].filter(Boolean).join(': ');
  return `${found.service ?? 'unknown service'} ${found.name} (span ${found.span_id})${words ? `: ${words}` : ''}`;
}

function traceText(record: AuditRecord): string {
  const trace = record.audit.trace;
  if (!trace) return '';
  const root = trace.root ? `${trace.root.service ?? ''} ${trace.root.name}, ` : '';
  return `${root}${formatDuration(trace.duration)}, ${trace.span_count} spans, ${trace.error_count} errors, ${trace.services.join(' → ')}`;
}

function joinText(record: AuditRecord): string {
  const { join } = record.audit;
  const late = join.late ? ', late' : '';
  const missing = join.missing_parents > 0 ? `, ${join.missing_parents} parents missing` : '';
  const conflicts = join.conflicts ? `; conflicts: ${join.conflicts.join('; ')}` : '';
  return `${join.state} of ${join.spans} spans, settled by ${join.reason}${late}${missing}${conflicts}`;
}

function revised(record: AuditRecord): string {
  return record.audit.revised_at === undefined ? '' : ` of ${record.audit.revised_at}`;
}

function pathLines(record: AuditRecord, paint: Paint): string[] {
  const path = record.audit.path ?? [];
  if (path.length === 0) return [];
  return [
    `${paint.dim('path'.padStart(12))}`,
    ...path.map((step, depth) => {
      const text = `${step.service ?? '?'} ${step.name} (${step.kind}) +${formatDuration(step.start_offset)} ${formatDuration(step.duration)}`;
      const coloured = step.status === 'ok' ? printable(text) : paint.red(`${printable(text)} ${step.status}`);
      return `${' '.repeat(14 + depth * 2)}${coloured}${step.span_id === record.span?.id ? paint.bold(' ◀ this access') : ''}`;
    }),
  ];
}
