import type { TraceAnswer, TraceSpan } from '../api/contract.ts';
import type { AuditRecord } from '../core/record.ts';
import { formatDuration, type Paint, printable } from './format.ts';

const BAR_WIDTH = 32;
const NAME_WIDTH = 56;
/** Bars printed: more than a person reads; the rest is counted. */
const BARS_MAX = 500;

interface Bar {
  readonly span: TraceSpan;
  readonly depth: number;
  /** The parent is named but was never received. */
  readonly parentMissing: boolean;
}

/** A text waterfall of one trace: each span under its parent, accesses and refusals marked. */
export function traceText(answer: TraceAnswer, paint: Paint): string {
  const bars = order(answer.spans);
  const end = Math.max(1, ...answer.spans.map((span) => span.start_offset + span.duration));
  const bySpan = new Map<string, AuditRecord>();
  for (const record of answer.records) if (record.span) bySpan.set(record.span.id, record);
  const lines = [
    `trace ${answer.trace_id}: ${answer.spans.length} spans, ${formatDuration(end)}, ${answer.records.length} accesses`,
  ];
  if (answer.drawn_from === 'records') {
    lines.push(paint.yellow('the spans are beyond the horizon; drawn from the paths stored with the accesses'));
  }
  for (const bar of bars.slice(0, BARS_MAX)) {
    if (bar.parentMissing)
      lines.push(paint.dim(`${'  '.repeat(bar.depth)}┆ parent ${bar.span.parent_id} never received`));
    lines.push(barLine(bar, end, bySpan.get(bar.span.span_id), paint));
  }
  if (bars.length > BARS_MAX) lines.push(paint.dim(`… and ${bars.length - BARS_MAX} more spans`));
  const untied = answer.records.filter(
    (record) => !record.span || !answer.spans.some((s) => s.span_id === record.span?.id),
  );
  for (const record of untied) lines.push(`${paint.dim('no span:')} ${printable(record.message)}`);
  return `${lines.join('\n')}\n`;
}

/** Depth first, siblings by start; spans caught in a cycle of parents come last, as if their parent were missing. */
function order(spans: readonly TraceSpan[]): Bar[] {
  const known = new Set(spans.map((span) => span.span_id));
  const children = new Map<string, TraceSpan[]>();
  const tops: TraceSpan[] = [];
  for (const span of spans) {
    const parent = span.parent_id;
    if (parent !== undefined && known.has(parent) && parent !== span.span_id) {
      children.set(parent, [...(children.get(parent) ?? []), span]);
    } else tops.push(span);
  }
  const byStart = (a: TraceSpan, b: TraceSpan) => b.start_offset - a.start_offset;
  const bars: Bar[] = [];
  const seen = new Set<string>();
  const walk = (top: TraceSpan) => {
    const stack: Bar[] = [{ span: top, depth: 0, parentMissing: top.parent_id !== undefined }];
    for (let bar = stack.pop(); bar; bar = stack.pop()) {
      if (seen.has(bar.span.span_id)) continue;
      seen.add(bar.span.span_id);
      bars.push(bar);
      const { depth } = bar;
      for (const child of (children.get(bar.span.span_id) ?? []).sort(byStart)) {
        stack.push({ span: child, depth: depth + 1, parentMissing: false });
      }
    }
  };
  for (const top of tops.sort((a, b) => a.start_offset - b.start_offset)) walk(top);
  for (const span of spans) if (!seen.has(span.span_id)) walk(span);
  return bars;
}

function barLine(bar: Bar, end: number, record: AuditRecord | undefined, paint: Paint): string {
  const { span, depth } = bar;
  const label = printable(`${'  '.repeat(Math.min(depth, 16))}${span.service ?? '?'} ${span.name}`);
  const name = label.length > NAME_WIDTH ? `${label.slice(0, NAME_WIDTH - 1)}…` : label.padEnd(NAME_WIDTH);
  const from = Math.min(BAR_WIDTH - 1, Math.floor((span.start_offset / end) * BAR_WIDTH));
  const width = Math.max(1, Math.min(BAR_WIDTH - from, Math.round((span.duration / end) * BAR_WIDTH)));
  const drawn = `${' '.repeat(from)}${'━'.repeat(width)}`.padEnd(BAR_WIDTH);
  const duration = formatDuration(span.duration).padStart(8);
  return `${name} ${span.status === 'error' ? paint.red(drawn) : drawn} ${duration}${accessMark(record, span, paint)}`;
}

function accessMark(record: AuditRecord | undefined, span: TraceSpan, paint: Paint): string {
  if (record?.audit.decision === 'deny') {
    return paint.red(
      `  ✗ REFUSED ${printable(`${record.event.action} ${record.audit.target.id}: ${record.event.reason ?? ''}`)}`,
    );
  }
  const failure = span.status === 'error' ? paint.red(`  ✗ ${printable(span.status_message ?? 'error')}`) : '';
  if (!record) return failure;
  const who = record.user?.id === undefined ? '' : ` by ${record.user.id}`;
  return `${paint.green(`  ● ${printable(`${record.event.action} ${record.audit.target.id}${who}`)}`)}${failure}`;
}
