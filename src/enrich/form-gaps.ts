import type { FormGaps } from '../core/settlement.ts';
import { WORD } from './form-bytes.ts';
import type { RecordForm } from './trace-form.ts';

/** Where the texts of a form differ. */
export function gapsOf({ text, moves, odd, path, auditEnd }: Omit<RecordForm, 'gaps'>): FormGaps {
  const gaps: [start: number, end: number][] = [];
  for (let move = 0; move < moves.length; move += 3) {
    const start = (moves[move + 1] as number) * WORD;
    gaps.push([start, start + (moves[move + 2] as number) * WORD]);
  }
  for (const { at, width } of path ? [...odd, path] : odd) if (width > 0) gaps.push([at, at + width]);
  return { size: text.length, auditEnd, ranges: Int32Array.from(gaps.sort(([a], [b]) => a - b).flat()) };
}
