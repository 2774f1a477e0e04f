import { parseTimestamp } from '../core/clock.ts';
import { AppError, describeError } from '../core/errors.ts';
import { Counters } from '../core/metrics.ts';
import type { AuditRecord, SettleReason } from '../core/record.ts';
import type { RecordWrite } from '../core/settlement.ts';
import type { SettledBatch, Supersession } from '../join/batch.ts';
import type { Store, WriteRejection, WriteResult } from '../store/port.ts';

/**
 * Failures of a batch, not for want of the store, after which its records are looked at one by one: enough for what passes by
 * itself, such as memory that others use, and over in a few seconds.
 */
const FAILURES_WHOLE_MAX = 5;

/** Failures of a record alone, each right after a write that worked, after which it is set aside. */
const FAILURES_ALONE_MAX = 3;

/** Records that are written alone to learn whether the store takes any: where all fail, it costs little and says enough. */
const PROBES_MAX = 16;

export interface Attempts {
  readonly write: Store['write'];
  /** Waits after a failure, the longer the more there were before; throws when there is no time to wait for. */
  readonly pause: (thrown: unknown, failuresBefore: number) => Promise<void>;
  /** Records from outside the batch that the store takes, most likely: written before, or due next. May be written again. */
  readonly others: () => readonly RecordWrite[];
}

type Tried = { readonly result: WriteResult } | { readonly thrown: unknown };

const NOTHING: WriteResult = { written: 0, outranked: 0, rejected: [] };

/**
 * Writes a batch however long it takes. What keeps failing is written in halves, then in theirs: a record that the store
 * fails with while it takes others is among the rejected, so that it holds up no other. A store that takes nothing at
 * all, or says `store_unavailable`, is waited for: then no record is at fault.
 */
export async function writeAll(writes: readonly RecordWrite[], attempts: Attempts): Promise<WriteResult> {
  if (writes.length === 0) return NOTHING;
  for (let failures = 0; ; failures++) {
    const tried = await tryWrite(writes, attempts);
    if ('result' in tried) return tried.result;
    await attempts.pause(tried.thrown, failures);
    if (failures + 1 < FAILURES_WHOLE_MAX) continue;
    const proof = await findProof(writes, failures, attempts);
    if (proof !== undefined) return writeApart(writes, proof, attempts);
  }
}

/** The store's answer, or what it threw for other reasons than that it is away. */
async function tryWrite(writes: readonly RecordWrite[], { write, pause }: Attempts): Promise<Tried> {
  for (let failures = 0; ; failures++) {
    try {
      return { result: await write(writes) };
    } catch (thrown) {
      if (!(thrown instanceof AppError && thrown.retryable)) return { thrown };
      await pause(thrown, failures);
    }
  }
}

/** A record that the store judges, right now, be it by refusing it; undefined when it failed with all that were tried. */
async function findProof(
  writes: readonly RecordWrite[],
  round: number,
  attempts: Attempts,
): Promise<RecordWrite | undefined> {
  const step = Math.ceil(writes.length / PROBES_MAX);
  const own = writes.filter((_, at) => at % step === round % step);
  for (const write of [...attempts.others(), ...own]) {
    if (await isTaken(write, attempts)) return write;
  }
  return undefined;
}

async function isTaken(write: RecordWrite, attempts: Attempts): Promise<boolean> {
  const tried = await tryWrite([write], attempts);
  return 'result' in tried;
}

async function writeApart(
  writes: readonly RecordWrite[],
  proof: RecordWrite,
  attempts: Attempts,
): Promise<WriteResult> {
  const results: WriteResult[] = [];
  let suspects = await sift(writes, results, attempts);
  for (let round = 0, failures = 0; suspects.length > 0 && round < FAILURES_ALONE_MAX; failures++) {
    await attempts.pause(suspects[0]?.thrown, failures);
    // Without it a store that went away meanwhile would look like so many bad records.
    if (!(await isTaken(proof, attempts))) continue;
    round++;
    const again = suspects.map(({ write }) => write);
    suspects = [];
    for (const write of again) suspects.push(...(await sift([write], results, attempts)));
  }
  const rejected = suspects.map(
    ({ write, thrown }): WriteRejection => ({ id: write.id, reason: describeError(thrown) }),
  );
  return [...results, { ...NOTHING, rejected }].reduce((sum, result) => ({
    written: sum.written + result.written,
    outranked: sum.outranked + result.outranked,
    rejected: [...sum.rejected, ...result.rejected],
  }));
}

interface Suspect {
  readonly write: RecordWrite;
  readonly thrown: unknown;
}

/** Writes what can be written, in order and in parts as large as will do. Returns what failed alone. */
async function sift(part: readonly RecordWrite[], results: WriteResult[], attempts: Attempts): Promise<Suspect[]> {
  const tried = await tryWrite(part, attempts);
  if ('result' in tried) {
    results.push(tried.result);
    return [];
  }
  const [write] = part;
  if (write === undefined || part.length === 1) return write === undefined ? [] : [{ write, thrown: tried.thrown }];
  await attempts.pause(tried.thrown, 0);
  const half = Math.ceil(part.length / 2);
  const first = await sift(part.slice(0, half), results, attempts);
  return [...first, ...(await sift(part.slice(half), results, attempts))];
}

export interface LastRevisionParts {
  readonly store: Pick<Store, 'get'>;
  readonly log: { warn(details: object, message: string): void };
  /** How often this was tried before. */
  readonly failures: number;
}

/**
 * The last revisions of records whose ids their traces no longer yield. One that the store does not have (it was set
 * aside, or deleted as too old), or cannot give however often it is asked, cannot get any, which the log says.
 */
export async function lastRevisions(
  superseded: readonly Supersession[],
  { store, log, failures }: LastRevisionParts,
): Promise<RecordWrite[]> {
  const writes: RecordWrite[] = [];
  for (const { id, by, namespace, timestampNs, rank, revision, revisedAt, isGuess } of superseded) {
    let found: AuditRecord | undefined;
    try {
      found = await store.get(id, { namespace, timestampNs });
    } catch (thrown) {
      const isAway = thrown instanceof AppError && thrown.retryable;
      if (isAway || failures < FAILURES_WHOLE_MAX) throw thrown;
      log.warn(
        { id, by, namespace, error: thrown },
        'a record that another stands for now cannot be read: it is not marked',
      );
      continue;
    }
    if (found === undefined) {
      if (isGuess) continue;
      log.warn({ id, by, namespace }, 'a record that another stands for now is not in the store: it is not marked');
      continue;
    }
    const record = structuredClone(found);
    record.audit.supersedes = record.audit.revision;
    Object.assign(record.audit, { revision, revised_at: revisedAt, superseded_by: by });
    const livesAtNs = parseTimestamp(record['@timestamp']) ?? timestampNs;
    writes.push({ id, namespace, timestampNs: livesAtNs, rank, record, previousTimestampNs: livesAtNs });
  }
  return writes;
}

/** The records of all traces, in their order. Without a list for each trace on the way: there are thousands. */
export function writesOf(batches: readonly SettledBatch[]): RecordWrite[] {
  const all: RecordWrite[] = [];
  for (const { traces } of batches) for (const { writes } of traces) for (const write of writes) all.push(write);
  return all;
}

/**
 * Once all is stored. What a trace is known by is held on to for longer, by what has grown old and is not collected yet; so all of its
 * records would grow old, too, with each collection of new objects.
 */
export function forgetWrites(batches: readonly SettledBatch[]): void {
  for (const { traces } of batches) for (const { writes } of traces) (writes as RecordWrite[]).length = 0;
}

/** What is to be counted of batches that are stored; `rejected` of their writes were set aside. */
export function countsOf(
  batches: readonly SettledBatch[],
  writes: readonly RecordWrite[],
  { written, outranked }: WriteResult,
  rejected: number,
): Counters {
  const counts = new Counters();
  counts.add('written', written);
  counts.add('outranked', outranked);
  counts.add('revisions', revisionsIn(writes));
  counts.add('quarantined', rejected, { stage: 'store' });
  countSettled(batches, counts);
  return counts;
}

function revisionsIn(writes: readonly RecordWrite[]): number {
  let count = 0;
  for (const { previousTimestampNs } of writes) if (previousTimestampNs !== undefined) count++;
  return count;
}

/** Traces by why they were settled, and pieces of evidence that were set aside. */
function countSettled(batches: readonly SettledBatch[], counts: Counters): void {
  const traces = new Map<SettleReason, number>();
  for (const batch of batches) {
    for (const { stage, pieces } of batch.quarantined) counts.add('quarantined', pieces, { stage });
    for (const { reason } of batch.traces) traces.set(reason, (traces.get(reason) ?? 0) + 1);
  }
  for (const [reason, count] of traces) counts.add('settled', count, { reason });
}
