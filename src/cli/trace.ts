import type { TraceAnswer, TraceSpan } from '../api/contract.ts';
import type { AuditRecord } from '../core/record.ts';
import { formatDuration, type Paint, printable } from './format.ts';
import { markText } from './show.ts';

/** Bars printed: more than a person reads. Of a bigger trace the accesses, failures and what leads to them come first. */
const BARS_MAX = 300;
const INDENT_MAX = 16;

interface Bar {
  readonly span: TraceSpan;
  readonly depth: number;
  readonly parent: Bar | undefined;
  /** The parent is named but was never received. */
  readonly parentMissing: boolean;
}

/** Characters of a line and of its parts. Bars and names give way on a narrow terminal, then the text behind them. */
interface Widths {
  readonly name: number;
  readonly bar: number;
  readonly line: number;
}

/** A text waterfall of one trace: each span under its parent, accesses and refusals marked. Lines fit `columns`. */
export function traceText(answer: TraceAnswer, paint: Paint, columns = 1000): string {
  const bars = order(answer.spans);
  const end = answer.spans.reduce((latest, span) => Math.max(latest, span.start_offset + span.duration), 1);
  const bySpan = new Map<string, AuditRecord>();
  for (const record of answer.records) if (record.span) bySpan.set(record.span.id, record);
  const shown = choose(bars, bySpan);
  const widths: Widths = {
    name: Math.max(20, Math.min(56, Math.floor(columns * 0.4))),
    bar: Math.max(8, Math.min(32, Math.floor(columns * 0.2))),
    line: columns,
  };
  const lines = [
    `trace ${answer.trace_id}: ${answer.spans.length} spans, ${formatDuration(end)}, ${answer.records.length} accesses`,
  ];
  if (answer.drawn_from === 'records') {
    lines.push(paint.yellow('the spans are beyond the horizon; drawn from the paths stored with the accesses'));
  }
  for (const alert of answer.alerts ?? []) lines.push(paint.red(printable(`alert: ${markText(alert)}`)));
  let left = 0;
  const countLeft = () => {
    if (left > 0) lines.push(paint.dim(`  … ${left} spans left out`));
    left = 0;
  };
  for (const bar of bars) {
    if (!shown.has(bar)) {
      left += 1;
      continue;
    }
    countLeft();
    if (bar.parentMissing) lines.push(paint.dim(`┆ parent ${bar.span.parent_id} never received`));
    lines.push(barLine(bar, end, bySpan.get(bar.span.span_id), paint, widths));
  }
  countLeft();
  const drawn = new Set(answer.spans.map((span) => span.span_id));
  for (const record of answer.records) {
    if (!record.span || !drawn.has(record.span.id)) lines.push(`${paint.dim('no span:')} ${printable(record.message)}`);
  }
  return `${lines.join('\n')}\n`;
}

/** The bars to print: refusals and failures with what leads to them, then accesses likewise, then the first of the rest. */
function choose(bars: readonly Bar[], bySpan: ReadonlyMap<string, AuditRecord>): ReadonlySet<Bar> {
  if (bars.length <= BARS_MAX) return new Set(bars);
  const weight = ({ span }: Bar) => {
    const record = bySpan.get(span.span_id);
    if (record?.audit.decision === 'deny') return 0;
    if (span.status === 'error') return 1;
    return record ? 2 : 3;
  };
  const chosen = new Set<Bar>();
  for (const bar of bars.toSorted((a, b) => weight(a) - weight(b))) {
    const wanted: Bar[] = [];
    for (let step: Bar | undefined = bar; step && !chosen.has(step) && wanted.length < BARS_MAX; step = step.parent) {
      wanted.push(step);
    }
    if (chosen.size + wanted.length > BARS_MAX) break;
    for (const step of wanted) chosen.add(step);
  }
  return chosen;
}

/** Depth first, siblings by start; spans caught in a cycle of parents come last, as if their parent were missing. */
function order(spans: readonly TraceSpan[]): Bar[] {
  const known = new Set(spans.map((span) => span.span_id));
  const children = new Map<string, TraceSpan[]>();
  const tops: TraceSpan[] = [];
  for (const span of spans.toSorted((a, b) => a.start_offset - b.start_offset)) {
    const parent = span.parent_id;
    if (parent === undefined || !known.has(parent) || parent === span.span_id) {
      tops.push(span);
      continue;
    }
    const siblings = children.get(parent);
    if (siblings) siblings.push(span);
    else children.set(parent, [span]);
  }
  const bars: Bar[] = [];
  const seen = new Set<string>();
  for (const top of [...tops, ...spans]) {
    const parentMissing = top.parent_id !== undefined && !known.has(top.parent_id);
    const stack: Bar[] = [{ span: top, depth: 0, parent: undefined, parentMissing }];
    for (let bar = stack.pop(); bar; bar = stack.pop()) {
      if (seen.has(bar.span.span_id)) continue;
      seen.add(bar.span.span_id);
      bars.push(bar);
      for (const span of (children.get(bar.span.span_id) ?? []).toReversed()) {
        stack.push({ span, depth: bar.depth + 1, parent: bar, parentMissing: false });
      }
    }
  }
  return bars;
}

function barLine(bar: Bar, end: number, record: AuditRecord | undefined, paint: Paint, widths: Widths): string {
  const { span, depth } = bar;
  const label = printable(`${'  '.repeat(Math.min(depth, INDENT_MAX))}${span.service ?? '?'} ${span.name}`);
  const name = cut(label, widths.name).padEnd(widths.name);
  const from = Math.min(widths.bar - 1, Math.floor((span.start_offset / end) * widths.bar));
  const width = Math.max(1, Math.min(widths.bar - from, Math.round((span.duration / end) * widths.bar)));
  const drawn = `${' '.repeat(from)}${'━'.repeat(width)}`.padEnd(widths.bar);
  const start = `${name} ${span.status === 'error' ? paint.red(drawn) : drawn} ${formatDuration(span.duration).padStart(8)}`;
  const room = Math.max(12, widths.line - widths.name - widths.bar - 12);
  return `${start}${accessMark(record, span, paint, room)}`;
}

function cut(text: string, length: number): string {
  return text.length > length ? `${text.slice(0, length - 1)}…` : text;
}

function accessMark(record: AuditRecord | undefined, span: TraceSpan, paint: Paint, room: number): string {
  const failure = span.status === 'error' ? `✗ ${span.status_message ?? 'error'}` : '';
  const say = (text: string) => (text === '' ? '' : `  ${cut(printable(text), room)}`);
  if (!record) return paint.red(say(failure));
  const what = `${record.event.action} ${record.audit.target.id}`;
  if (record.audit.decision === 'deny') {
    return paint.red(say(`✗ REFUSED ${what}${record.event.reason === undefined ? '' : `: ${record.event.reason}`}`));
  }
  const text = `● ${what}${record.user?.id === undefined ? '' : ` by ${record.user.id}`}`;
  return failure === '' ? paint.green(say(text)) : paint.red(say(`${text}  ${failure}`));
}
