import { type Scheduler, systemScheduler } from '../core/clock.ts';
import { describeError } from '../core/errors.ts';
import { compactSegment } from './compaction.ts';
import { CompactionThread } from './compaction-thread.ts';
import { nodeDisk } from './disk.ts';
import { reportOf, type Segment, type SegmentFolder } from './segment-recovery.ts';

/** A compaction waits for a moment without an append, before each block at most this long: it must not starve either. */
const BREATH_MAX_MS = 25;

export interface BackgroundCompactionOptions extends SegmentFolder {
  readonly scheduler?: Scheduler;
  /** The appends under way, if any; resolves when there is a moment without. */
  readonly appends: () => Promise<void> | undefined;
}

/** Compacts one segment at a time while the log goes on. */
export class BackgroundCompaction {
  readonly #options: BackgroundCompactionOptions;
  #running: { readonly segment: number; isStopped: boolean; done: Promise<void> } | undefined;
  /** Segments that are left alone because they are damaged. */
  readonly #keptRaw = new Set<Segment>();
  readonly #thread: CompactionThread | undefined;

  constructor(options: BackgroundCompactionOptions) {
    this.#options = options;
    // Any other disk lives on this thread.
    if (options.disk === nodeDisk) this.#thread = new CompactionThread();
  }

  /** The segment that is being compacted. */
  get segment(): number | undefined {
    return this.#running?.segment;
  }

  /** Answers whether it was begun. A failure is reported and leaves the segment as it was. */
  start(segment: Segment, compacted: (rawBytes: number, bytes: number) => void): boolean {
    const isRaw = segment.sealed && segment.compressedBytes === undefined;
    const isDamaged = segment.header !== undefined || this.#keptRaw.has(segment);
    if (this.#running || !isRaw || isDamaged) return false;
    const running = { segment: segment.segment, isStopped: false, done: Promise.resolve() };
    this.#running = running;
    running.done = this.#run(segment, () => running.isStopped, compacted).finally(() => {
      this.#running = undefined;
    });
    return true;
  }

  /** What was begun is given up; resolves when nothing of it is under way. */
  async stop(): Promise<void> {
    if (!this.#running) return;
    this.#running.isStopped = true;
    await this.#running.done;
  }

  /** As `stop`; nothing is begun afterwards. */
  async close(): Promise<void> {
    await this.stop();
    await this.#thread?.close();
  }

  async #run(
    segment: Segment,
    isStopped: () => boolean,
    compacted: (rawBytes: number, bytes: number) => void,
  ): Promise<void> {
    const wasRaw = () => segment.compressedBytes === undefined;
    try {
      const pace = { isStopped, breathe: () => this.#breathe() };
      const end = await compactSegment(this.#options, segment, pace, this.#thread);
      if (end.result !== 'damaged') return;
      this.#keptRaw.add(segment);
      const found = reportOf(this.#options, segment, end.damage);
      this.#options.report({ ...found, reason: `${found.reason}: it is not compacted` });
    } catch (error) {
      const what = wasRaw()
        ? 'compaction failed, nothing is lost'
        : 'the raw file of a compacted segment is still there';
      this.#options.report({ segment: segment.segment, bytesCut: 0, reason: `${what}: ${describeError(error)}` });
    } finally {
      if (segment.compressedBytes !== undefined) compacted(segment.bytes, segment.compressedBytes);
    }
  }

  async #breathe(): Promise<void> {
    const appends = this.#options.appends();
    if (!appends) return;
    let cancel = () => {};
    const longEnough = new Promise<void>((resolve) => {
      cancel = (this.#options.scheduler ?? systemScheduler).after(BREATH_MAX_MS, resolve);
    });
    await Promise.race([appends, longEnough]);
    cancel();
  }
}
