import { describe, expect, it } from 'vitest';
import type { TraceAnswer, TraceSpan } from '../../src/api/contract.ts';
import { caretLines, createPaint, formatDuration, jsonLine, printable, printableChunks } from '../../src/cli/format.ts';
import { recordText } from '../../src/cli/show.ts';
import { traceText } from '../../src/cli/trace.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import { makeRecord } from '../fixtures/records.ts';

/** What the command line prints, without running it. */

async function joined(texts: AsyncIterable<string>): Promise<string> {
  let all = '';
  for await (const text of texts) all += text;
  return all;
}

const plain = createPaint(false);
const HOSTILE = 'a\u001b[2Jb\u0000c\u009b31md\u202ee\u2028f\u007fg\nh';

describe('text out of evidence', () => {
  it('cannot steer a terminal', async () => {
    expect(printable(HOSTILE)).toBe('a�[2Jb�c�31md�e�f�g h');
    const line = jsonLine({ text: HOSTILE });
    expect(line).not.toMatch(/[^\n -~]/);
    expect(JSON.parse(line)).toEqual({ text: HOSTILE });
  });

  it('is exported to a terminal whole, also where a letter is cut in two', async () => {
    const bytes = Buffer.from(`ß😀\u001b[2J\r\n`);
    const chunks = (async function* () {
      for (const byte of bytes) yield Uint8Array.of(byte);
    })();
    expect(await joined(printableChunks(chunks))).toBe('ß😀�[2J\r\n');
  });

  it('has a caret under its column, also far out in a long query', () => {
    expect(caretLines('a\tand (', 7)).toEqual(['  a and (', '        ^']);
    const [line = '', caret = ''] = caretLines(`${'x'.repeat(500)}!${'y'.repeat(500)}`, 501);
    expect(line[caret.indexOf('^')]).toBe('!');
    expect(line.length).toBeLessThan(130);
  });

  it.each([
    [0, '0 ns'],
    [999, '999 ns'],
    [1500, '1.5 µs'],
    [41_000_000, '41 ms'],
    [999_999_999, '1 s'],
    [90_000_000_000, '1.5 min'],
    [7_200_000_000_000, '2 h'],
  ])('%i nanoseconds are %s', (nanoseconds, text) => expect(formatDuration(nanoseconds)).toBe(text));
});

describe('one record', () => {
  it('shows each answer once, with colours only when asked for', () => {
    const record = makeRecord({
      user: { id: HOSTILE },
      audit: {
        decision: 'deny',
        superseded_by: 'f'.repeat(32),
        path: [
          {
            service: 'web',
            name: HOSTILE,
            kind: 'server',
            span_id: 'a',
            start_offset: 0,
            duration: 5,
            status: 'denied',
          },
        ],
      },
    });
    const text = recordText(record, plain);
    expect(text).not.toMatch(/[^\n\P{Cc}]|\u202e/u);
    expect(text).toMatch(/superseded {2}by f{32}/);
    expect(text).toMatch(/path\n +web a�\[2Jb.* denied/);
    expect(recordText(record, createPaint(true))).toContain('\u001b[31mrefused\u001b[0m');
  });
});

describe('a trace', () => {
  const bar = (number: number, parent?: number, more: Partial<TraceSpan> = {}): TraceSpan => ({
    span_id: `s${number}`,
    ...(parent !== undefined && { parent_id: `s${parent}` }),
    name: `step ${number}`,
    kind: 'internal',
    service: 'web',
    start_offset: number * 10,
    duration: 1000,
    status: 'ok',
    ...more,
  });
  const answer = (spans: TraceSpan[], records: AuditRecord[] = [], drawnFrom: TraceAnswer['drawn_from'] = 'evidence') =>
    traceText({ trace_id: 'f'.repeat(32), drawn_from: drawnFrom, spans, records }, plain)
      .trimEnd()
      .split('\n');
  const names = (lines: string[]) => lines.slice(1).map((line) => /^ *(.*?)(?: {2,}|━|$)/.exec(line)?.[1]?.trim());

  it('says when it is drawn from the stored paths', () => {
    expect(answer([bar(0)], [], 'records')[1]).toBe(
      'the spans are beyond the horizon; drawn from the paths stored with the accesses',
    );
  });

  it('draws every span once, whatever the parents say', () => {
    const lines = answer([bar(0), bar(1, 0), bar(2, 99), bar(3, 3), bar(4, 5), bar(5, 4)]);
    expect(names(lines)).toEqual([
      'web step 0',
      'web step 1',
      '┆ parent s99 never received',
      'web step 2',
      'web step 3',
      'web step 4',
      'web step 5',
    ]);
  });

  it('lists accesses that belong to no drawn span', () => {
    expect(answer([bar(0)], [makeRecord({ message: 'alice did it', span: { id: 'gone' } })]).at(-1)).toBe(
      'no span: alice did it',
    );
  });

  it('of 100,000 spans shows the refusal at its end and what leads to it', () => {
    const spans = Array.from({ length: 100_000 }, (_, number) =>
      bar(number, number === 0 ? undefined : number > 99_990 ? number - 1 : 0),
    );
    const refusal = makeRecord({ span: { id: 's99999' }, audit: { decision: 'deny' } });
    const lines = answer(spans, [refusal]);
    expect(lines.length).toBeLessThan(310);
    expect(lines[0]).toContain('100000 spans');
    expect(lines.find((line) => line.includes('REFUSED'))).toMatch(/web step 99999/);
    expect(names(lines)).toContain('web step 99991');
    expect(lines.some((line) => /… \d+ spans left out/.test(line))).toBe(true);
  });

  it('fits a narrow terminal', () => {
    const deep = Array.from({ length: 40 }, (_, number) =>
      bar(number, number - 1, { name: 'n'.repeat(200), status: 'error' }),
    );
    const text = traceText(
      { trace_id: 'f'.repeat(32), drawn_from: 'evidence', spans: deep, records: [makeRecord({ span: { id: 's3' } })] },
      plain,
      60,
    );
    for (const line of text.split('\n').slice(1)) expect(line.length).toBeLessThanOrEqual(60);
  });
});
