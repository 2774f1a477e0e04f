import { createHash } from 'node:crypto';
import { AppError } from '../core/errors.ts';
import type { KeptEntry, QuarantineEntry, Resolution } from './quarantine.ts';

/**
 * The lines of the quarantine, each a JSON document:
 *
 * | line | says |
 * |---|---|
 * | `{"spantrail":"quarantine","version":2,"resolved":[…]}` | the first one: format, and totals of what was resolved and is listed no longer |
 * | `{"key","stage","reason","id","addedAt","body"}` | an entry; a later one of the same key takes its place |
 * | `{"key","stage","reason","id","addedAt","resolved":{"how","at","why"}}` | the entry is resolved |
 *
 * Version 1 had no first line and entries without `key` and `addedAt`.
 */
const FORMAT_VERSION = 2;

export interface ResolvedTotal {
  readonly stage: string;
  readonly how: Resolution;
  readonly count: number;
}

export type QuarantineLine =
  | { readonly kind: 'header'; readonly totals: readonly ResolvedTotal[] }
  | { readonly kind: 'entry' | 'resolution'; readonly entry: KeptEntry };

/** Hex digits of a key: enough that two of the entries that fit the quarantine never share one. */
const KEY_DIGITS = 16;

export function keyOf({ stage, id, reason }: Omit<QuarantineEntry, 'body'>): string {
  return createHash('sha256')
    .update(JSON.stringify([stage, id, reason]))
    .digest('hex')
    .slice(0, KEY_DIGITS);
}

export function headerText(totals: readonly ResolvedTotal[]): string {
  return `${JSON.stringify({ spantrail: 'quarantine', version: FORMAT_VERSION, resolved: totals })}\n`;
}

export function entryLine(entry: KeptEntry & { readonly body: unknown }): Buffer {
  // The value as it is: `value` has already gone through the toJSON of buffers.
  function plain(this: Record<string, unknown>, key: string, value: unknown): unknown {
    const original = this[key];
    if (typeof original === 'bigint') return String(original);
    return original instanceof Uint8Array ? Buffer.from(original).toString('base64') : value;
  }
  const { key, stage, id, reason, addedAt, body = null } = entry;
  return Buffer.from(`${JSON.stringify({ key, stage, reason, id, addedAt, body }, plain)}\n`);
}

export function resolutionLine({ key, stage, id, reason, addedAt, resolved }: KeptEntry): Buffer {
  return Buffer.from(`${JSON.stringify({ key, stage, reason, id, addedAt, resolved })}\n`);
}

/** Undefined for a line that makes no sense. Throws AppError `storage` when a newer program wrote the file. */
export function parseLine(text: Buffer, file: string): QuarantineLine | undefined {
  const line = parseObject(text);
  if (line === undefined) return undefined;
  if (line['spantrail'] === 'quarantine') {
    if (Number(line['version']) > FORMAT_VERSION) {
      throw new AppError(
        'storage',
        `${file} was written by a newer Spantrail (format ${line['version']}, this one knows ${FORMAT_VERSION}); start that version`,
      );
    }
    return { kind: 'header', totals: Array.isArray(line['resolved']) ? line['resolved'] : [] };
  }
  const { stage, id, reason, addedAt = '', resolved, body } = line;
  if (typeof stage !== 'string' || typeof id !== 'string' || typeof reason !== 'string') return undefined;
  const key = typeof line['key'] === 'string' ? line['key'] : keyOf({ stage, id, reason });
  const entry = { key, stage, id, reason, addedAt: String(addedAt) };
  if (resolved !== undefined) {
    return { kind: 'resolution', entry: { ...entry, resolved: resolved as NonNullable<KeptEntry['resolved']> } };
  }
  return { kind: 'entry', entry: { ...entry, body } };
}

function parseObject(text: Buffer): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text.toString());
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}
