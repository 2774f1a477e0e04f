import type { QuarantineActionAnswer, QuarantineItem } from '../api/contract.ts';
import type { QuarantineDesk } from '../api/quarantine.ts';
import { AppError, describeError } from '../core/errors.ts';
import type { Signal } from '../core/evidence.ts';
import type { AuditRecord } from '../core/record.ts';
import type { RecordWrite } from '../core/settlement.ts';
import { scanLogs, scanTraces } from '../otlp/scan.ts';
import type { Store, WriteResult } from '../store/port.ts';
import type { Frame, StoredFrame } from '../wal/frame.ts';
import type { KeptEntry, Quarantine } from '../wal/quarantine.ts';
import type { FramePosition } from '../wal/segment-format.ts';

interface Parts {
  readonly quarantine: Pick<Quarantine, 'page' | 'get' | 'resolve' | 'repeatsOf' | 'status'>;
  readonly store: Pick<Store, 'write'>;
  /** Throws AppError when the frame is gone or damaged. */
  readonly readFrame: (position: FramePosition) => StoredFrame;
  /** Takes a frame into the write-ahead log once more: durable when it resolves. */
  readonly append: (frame: Frame) => Promise<unknown>;
  /** Settles again what is known of a trace; false when nothing is known of it. */
  readonly repeat: (namespace: string, traceId: string) => Promise<boolean>;
}

type Result = QuarantineActionAnswer['results'][number];

/** Where a piece of evidence lies, as its quarantine entry says. */
interface Place {
  readonly segment: number;
  readonly offset: number;
  /** Absent when the whole frame could not be read. */
  readonly itemStart?: number;
}

interface Candidate {
  readonly entry: KeptEntry;
  readonly write: RecordWrite;
}

/** Lists what was set aside, and resolves it at a person's word. */
export function createQuarantineDesk(parts: Parts): QuarantineDesk {
  const { quarantine } = parts;
  return {
    async list({ state, stage, limit, cursor }) {
      const isOpen = state === 'all' ? {} : { isOpen: state === 'open' };
      const { entries, next } = await quarantine.page({ ...isOpen, stage, limit, after: cursor });
      const { open, bytes, bytesMax, damaged } = quarantine.status();
      const items = entries.map(toItem);
      return { items, ...(next !== undefined && { next }), open, bytes, bytes_max: bytesMax, damaged };
    },
    async show(id) {
      const entry = await quarantine.get(id);
      return entry && toItem(entry);
    },
    retry: (ids) => retry(ids, parts),
    async drop(ids, reason) {
      const results: Result[] = [];
      for (const id of ids) {
        const isDropped = await quarantine.resolve(id, 'dropped', reason);
        results.push(isDropped ? { id, state: 'dropped', text: reason } : await stateOf(id, parts));
      }
      return { results };
    },
  };
}

function toItem({ key, stage, id, reason, addedAt, body, resolved }: KeptEntry): QuarantineItem {
  const item = { id: key, stage, subject: id, reason, added: addedAt };
  if (resolved) return { ...item, state: resolved.how, resolved: resolved.at, why: resolved.why };
  return { ...item, state: 'open', ...(body !== undefined && { body }) };
}

/** Why nothing was done about it. */
async function stateOf(id: string, { quarantine }: Parts): Promise<Result> {
  const entry = await quarantine.get(id);
  if (!entry) return { id, state: 'unknown', text: 'nothing in quarantine has this id' };
  if (entry.resolved) return { id, state: entry.resolved.how, text: `${entry.resolved.how} at ${entry.resolved.at}` };
  return { id, state: 'open', text: entry.reason };
}

async function retry(ids: readonly string[], parts: Parts): Promise<QuarantineActionAnswer> {
  const results = new Map<string, Result>();
  const records: Candidate[] = [];
  for (const id of ids) {
    const entry = await parts.quarantine.get(id);
    if (!entry || entry.resolved) {
      results.set(id, await stateOf(id, parts));
      continue;
    }
    const write = entry.stage === 'store' ? toWrite(entry.body) : undefined;
    if (write) records.push({ entry, write });
    else results.set(id, await settleAgain(entry, parts));
  }
  for (const result of await writeAgain(records, parts)) results.set(result.id, result);
  return { results: ids.flatMap((id) => results.get(id) ?? []) };
}

/** The write that was set aside. Undefined for an entry of an early version, which kept the record alone. */
function toWrite(body: unknown): RecordWrite | undefined {
  const { id, namespace, timestampNs, rank, record, previousTimestampNs } = body as Record<string, unknown>;
  if (typeof id !== 'string' || typeof namespace !== 'string' || rank === undefined || record === undefined) return;
  return {
    id,
    namespace,
    timestampNs: BigInt(String(timestampNs)),
    rank: BigInt(String(rank)),
    record: record as AuditRecord,
    // Revisions that came meanwhile may have moved it.
    mayBeElsewhere: 'moved',
    ...(previousTimestampNs !== undefined && { previousTimestampNs: BigInt(String(previousTimestampNs)) }),
  };
}

async function writeAgain(records: readonly Candidate[], parts: Parts): Promise<Result[]> {
  if (records.length === 0) return [];
  let written: WriteResult;
  try {
    written = await parts.store.write(records.map(({ write }) => write));
  } catch (thrown) {
    // Away: nobody's fault. Else one of them may be what the store fails with, and each is tried alone.
    if (thrown instanceof AppError && thrown.retryable) throw thrown;
    const [only] = records;
    if (only && records.length === 1) return [{ id: only.entry.key, state: 'open', text: describeError(thrown) }];
    const results: Result[] = [];
    for (const one of records) results.push(...(await writeAgain([one], parts)));
    return results;
  }
  const reasons = new Map(written.rejected.map(({ id, reason }) => [id, reason]));
  const results: Result[] = [];
  for (const { entry, write } of records) {
    const reason = reasons.get(write.id);
    if (reason !== undefined) results.push({ id: entry.key, state: 'open', text: reason });
    else results.push(await resolved(entry, 'the store has the record', parts));
  }
  return results;
}

async function resolved({ key }: KeptEntry, why: string, parts: Parts, repeats?: number): Promise<Result> {
  const isResolved = await parts.quarantine.resolve(key, 'retried', why, repeats);
  return isResolved ? { id: key, state: 'retried', text: why } : stateOf(key, parts);
}

/**
 * Hands evidence to the join again: its traces when it says which and they are known, else the frame that it came in, as if
 * it were sent once more (which changes no record that is stored). The entry is resolved once that is sure; should it fail
 * again, it stays or comes back under the same id.
 */
async function settleAgain(entry: KeptEntry, parts: Parts): Promise<Result> {
  const repeats = parts.quarantine.repeatsOf(entry.key);
  const repeated = new Set<string>();
  try {
    const frames = Map.groupBy(placesOf(entry.body), ({ segment, offset }) => `${segment}/${offset}`);
    for (const places of frames.values()) {
      const { segment = 0, offset = 0 } = places[0] ?? {};
      const { signal, note, payload } = parts.readFrame({ segment, offset });
      let isKnown = true;
      for (const traceId of tracesOf({ signal, payload }, places)) {
        if (repeated.has(`${note.namespace} ${traceId}`)) continue;
        repeated.add(`${note.namespace} ${traceId}`);
        isKnown &&= traceId !== '' && (await parts.repeat(note.namespace, traceId));
      }
      if (!isKnown) await parts.append({ signal, note, payload });
    }
    return await resolved(entry, 'settled again; it comes back should that fail', parts, repeats);
  } catch (thrown) {
    if (thrown instanceof AppError && thrown.retryable) throw thrown;
    return { id: entry.key, state: 'open', text: `cannot be settled again: ${describeError(thrown)}` };
  }
}

function placesOf(body: unknown): Place[] {
  const places = Array.isArray(body) ? (body as Place[]) : [];
  const known = places.filter(({ segment, offset }) => Number.isInteger(segment) && Number.isInteger(offset));
  if (known.length > 0) return known;
  throw new AppError('storage', 'the entry does not say where its evidence lies');
}

/** The traces of these items; one without a name stands for items without a trace, and for a frame as a whole. */
function tracesOf({ signal, payload }: { signal: Signal; payload: Buffer }, places: readonly Place[]): Set<string> {
  const wanted = new Set(places.flatMap(({ itemStart }) => itemStart ?? []));
  const isWhole = places.some(({ itemStart }) => itemStart === undefined);
  const traces = new Set<string>(isWhole ? [''] : []);
  const scan = signal === 'logs' ? scanLogs : scanTraces;
  const result = scan(payload, ({ itemStart, traceIdAt }) => {
    if (wanted.has(itemStart)) traces.add(traceIdAt < 0 ? '' : payload.toString('hex', traceIdAt, traceIdAt + 16));
  });
  if (!result.ok && isWhole) throw new AppError('storage', `its frame still cannot be read: ${result.message}`);
  if (traces.size === 0) throw new AppError('storage', 'it is not where it should be in the write-ahead log');
  return traces;
}
