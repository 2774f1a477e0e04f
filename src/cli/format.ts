import type { AuditRecord } from '../core/record.ts';

/** Terminal colours, or none when the output is not a terminal. */
export interface Paint {
  dim(text: string): string;
  red(text: string): string;
  yellow(text: string): string;
  green(text: string): string;
  bold(text: string): string;
}

export function createPaint(colours: boolean): Paint {
  const paint = (code: number) => (text: string) => (colours ? `\u001b[${code}m${text}\u001b[0m` : text);
  return { dim: paint(2), red: paint(31), yellow: paint(33), green: paint(32), bold: paint(1) };
}

/** Control characters out of evidence must not reach a terminal: they could move the cursor or fake output. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this takes out
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, (letter) =>
    letter === '\n' || letter === '\t' ? ' ' : '\ufffd',
  );
}

const UNITS_NS: readonly (readonly [number, string])[] = [
  [3_600_000_000_000, 'h'],
  [60_000_000_000, 'min'],
  [1_000_000_000, 's'],
  [1_000_000, 'ms'],
  [1_000, 'µs'],
];

/** Nanoseconds for a person: `41 ms`, `1.2 s`. */
export function formatDuration(nanoseconds: number): string {
  for (const [size, unit] of UNITS_NS) {
    if (nanoseconds >= size) {
      const value = nanoseconds / size;
      return `${value >= 10 ? Math.round(value) : Math.round(value * 10) / 10} ${unit}`;
    }
  }
  return `${nanoseconds} ns`;
}

export function verdict(record: AuditRecord, paint: Paint): string {
  if (record.audit.decision === 'deny') return paint.red('refused');
  if (record.event.outcome === 'failure') return paint.yellow('failed ');
  if (record.event.outcome === 'success') return paint.green('ok     ');
  return paint.dim('unknown');
}

/** Digits of the record id shown in lists: `show` takes them. */
export const SHORT_ID_LENGTH = 12;

/** One record on one line: when, verdict, sentence, id. */
export function sentenceLine(record: AuditRecord, paint: Paint): string {
  const when = record['@timestamp'].slice(0, 23).replace('T', ' ');
  const inner = record.audit.entry ? '' : '  ↳ ';
  const id = record.event.id.slice(0, SHORT_ID_LENGTH);
  return `${paint.dim(when)}  ${verdict(record, paint)}  ${inner}${printable(record.message)}  ${paint.dim(id)}`;
}
