import { clip } from '../access/attributes.ts';
import type { Span } from '../core/evidence.ts';
import type { CriticalStep } from '../core/record.ts';
import { missingBytes, wordsOf } from './form-bytes.ts';
import type { SpanForm } from './trace-form.ts';
import { serviceName } from './where.ts';

/** What records of the trace tell of one span; `work` is what they tell of each access to a database, by span id. */
export function spanForm(span: Span, work: ReadonlyMap<string, string>): SpanForm {
  const service = serviceName(span.resource);
  const step: Partial<CriticalStep> = { ...(service && { service }), name: clip(span.name), span_id: '' };
  const told = work.get(span.spanId);
  const critical = JSON.stringify(step).slice(0, -2);
  return {
    critical: Buffer.from(`${' '.repeat(missingBytes(Buffer.byteLength(critical)))}${critical}`),
    work: told === undefined ? undefined : closing(told),
  };
}

/** As JSON has it after its opening quotation mark. */
export function closing(text: string): Uint32Array {
  const rest = JSON.stringify(text).slice(1);
  return wordsOf(`${rest}${' '.repeat(missingBytes(Buffer.byteLength(rest)))}`);
}
