import { dirname, join } from 'node:path';
import type { Clock } from '../core/clock.ts';
import { type CoverageNote, HOUR_MS } from '../core/coverage.ts';
import { describeError } from '../core/errors.ts';
import type { Disk } from '../wal/disk.ts';
import { ignoreAbsent, putAside, readChecked, writeChecked } from './checked-file.ts';
import {
  addCounts,
  addNote,
  type CoverageFacts,
  emptyCell,
  type LostDay,
  type Refusal,
  type Run,
  type ServiceHours,
} from './facts.ts';
import { REFUSAL_PAUSE_MS } from './gaps.ts';
import { type DayLine, type RunLine, toDayLines, toRunLines } from './lines.ts';

export interface CoverageLogSettings {
  /** What is older is forgotten. */
  readonly retentionMs: number;
  /** Services, each with its namespace, that are watched; evidence of others is only counted. */
  readonly servicesMax: number;
}

export interface CoverageLogOptions {
  /** Its own folder in the data folder. */
  readonly folder: string;
  readonly disk: Disk;
  readonly clock: Clock;
  readonly settings: CoverageLogSettings;
  /** Told of a file that could not be read and was put aside. */
  readonly report: (damage: { file: string; reason: string; lost: string }) => void;
}

const DAY_FORMAT = 'spantrail coverage day';
const RUNS_FORMAT = 'spantrail coverage runs';
const RUNS_FILE = 'runs.ndjson';
const DAY_FILE = /^(\d{4}-\d\d-\d\d)\.ndjson$/;
const DAY_MS = 24 * HOUR_MS;

/** No flush for this long, though there is one every few seconds: the process stood still. */
const PAUSE_MS = 60_000;

/** Runs, refusals and lost days that are remembered; the oldest go first. A process that restarts all day fills no memory. */
const LINES_MAX = 1000;

/**
 * What is known of coverage: in memory, and in a file for each UTC day and one for the runs of Spantrail, written whole by
 * `flush`. Bounded by services, hours and runs. A crash loses what was added after the last flush, which the next run says.
 */
export class CoverageLog {
  readonly #options: CoverageLogOptions;
  readonly #services = new Map<string, ServiceHours>();
  readonly #unwatched: ServiceHours = { namespace: '', service: '', cells: [] };
  readonly #dirtyDays = new Set<number>();
  #runs: Run[] = [];
  #refusals: Refusal[] = [];
  #lost: LostDay[] = [];
  #writing: Promise<void> = Promise.resolve();

  private constructor(options: CoverageLogOptions) {
    this.#options = options;
  }

  /** Reads what earlier runs left and begins this run. Rejects only when the folder cannot be used. */
  static async open(options: CoverageLogOptions): Promise<CoverageLog> {
    const log = new CoverageLog(options);
    const { disk, folder, clock } = options;
    await disk.makeFolder(folder);
    await disk.syncFolder(dirname(folder));
    await log.#readRuns();
    for (const name of (await disk.list(folder)).toSorted()) {
      const day = DAY_FILE.exec(name)?.[1];
      if (day !== undefined) await log.#readDay(name, Date.parse(`${day}T00:00:00Z`) / DAY_MS);
    }
    const nowMs = clock.nowMs();
    log.#runs.push({ startedMs: nowMs, aliveMs: nowMs, isClean: false });
    log.#forget(nowMs);
    return log;
  }

  add(notes: readonly CoverageNote[]): void {
    const nowMs = this.#options.clock.nowMs();
    const times = { nowMs, oldestMs: nowMs - this.#options.settings.retentionMs };
    for (const note of notes) {
      const cell = addNote(this.#hoursOf(note.namespace, note.service), note, times);
      this.#dirtyDays.add(dayOf(cell.hour));
    }
  }

  /** So many requests were refused since the last call. */
  refused(requests: number): void {
    if (requests <= 0) return;
    const nowMs = this.#options.clock.nowMs();
    const last = this.#refusals.at(-1);
    if (last !== undefined && nowMs - last.toMs <= REFUSAL_PAUSE_MS) {
      last.toMs = nowMs;
      last.requests += requests;
    } else {
      this.#refusals.push({ fromMs: nowMs, toMs: nowMs, requests });
    }
  }

  facts(): CoverageFacts {
    return {
      services: [...this.#services.values()],
      unwatched: this.#unwatched,
      runs: this.#runs,
      refusals: this.#refusals,
      lost: this.#lost,
    };
  }

  /** Nothing is known of the time before. */
  knownSinceMs(): number {
    const nowMs = this.#options.clock.nowMs();
    let firstMs = this.#runs[0]?.startedMs ?? nowMs;
    for (const { cells } of this.#services.values()) firstMs = Math.min(firstMs, cells[0]?.firstMs ?? firstMs);
    return Math.max(nowMs - this.#options.settings.retentionMs, firstMs);
  }

  /** Makes what changed durable, and that this run lives. When it rejects, the next one writes the same again. */
  flush(): Promise<void> {
    const turn = this.#writing.then(() => this.#write());
    this.#writing = turn.catch(() => undefined);
    return turn;
  }

  /** The last flush of this run; says that it ended well. */
  async close(): Promise<void> {
    await this.#writing;
    this.#live(this.#options.clock.nowMs());
    const run = this.#runs.at(-1);
    if (run !== undefined) run.isClean = true;
    await this.flush();
  }

  async #write(): Promise<void> {
    const { disk, folder, clock } = this.#options;
    const nowMs = clock.nowMs();
    this.#live(nowMs);
    await this.#removeOld(nowMs);
    for (const day of [...this.#dirtyDays]) {
      this.#dirtyDays.delete(day);
      const lines = toDayLines([...this.#services.values()], this.#unwatched, day);
      await writeChecked(disk, join(folder, dayFile(day)), DAY_FORMAT, lines).catch((error: unknown) => {
        this.#dirtyDays.add(day);
        throw error;
      });
    }
    const lines = toRunLines(this.#runs, this.#refusals, this.#lost);
    await writeChecked(disk, join(folder, RUNS_FILE), RUNS_FORMAT, lines);
  }

  /** What was before a pause is a run of its own: nothing could be received in between. */
  #live(nowMs: number): void {
    const run = this.#runs.at(-1);
    if (run === undefined) return;
    if (nowMs - run.aliveMs < PAUSE_MS) {
      run.aliveMs = nowMs;
      return;
    }
    run.isPaused = true;
    this.#runs.push({ startedMs: nowMs, aliveMs: nowMs, isClean: false });
  }

  #hoursOf(namespace: string, service: string): ServiceHours {
    const key = `${namespace} ${service}`;
    const known = this.#services.get(key);
    if (known !== undefined) return known;
    if (this.#services.size >= this.#options.settings.servicesMax) return this.#unwatched;
    const hours: ServiceHours = { namespace, service, cells: [] };
    this.#services.set(key, hours);
    return hours;
  }

  /** Forgets what is older than the retention, by whole days. */
  #forget(nowMs: number): void {
    const oldestDay = this.#oldestDay(nowMs);
    for (const [key, hours] of this.#services) {
      dropBefore(hours, oldestDay * 24);
      if (hours.cells.length === 0) this.#services.delete(key);
    }
    dropBefore(this.#unwatched, oldestDay * 24);
    const isRecent = (toMs: number) => toMs >= oldestDay * DAY_MS;
    this.#runs = this.#runs.filter(({ aliveMs }) => isRecent(aliveMs)).slice(-LINES_MAX);
    this.#refusals = this.#refusals.filter(({ toMs }) => isRecent(toMs)).slice(-LINES_MAX);
    this.#lost = this.#lost.filter(({ toMs }) => isRecent(toMs)).slice(-LINES_MAX);
  }

  async #removeOld(nowMs: number): Promise<void> {
    const { disk, folder } = this.#options;
    this.#forget(nowMs);
    const oldest = dayFile(this.#oldestDay(nowMs));
    for (const name of await disk.list(folder)) {
      if (DAY_FILE.test(name) && name < oldest) await disk.unlink(join(folder, name)).catch(ignoreAbsent);
    }
  }

  #oldestDay(nowMs: number): number {
    return Math.floor((nowMs - this.#options.settings.retentionMs) / DAY_MS);
  }

  async #readRuns(): Promise<void> {
    const lines = await this.#read(RUNS_FILE, RUNS_FORMAT, 'when Spantrail ran and refused before now');
    if (lines === undefined) return;
    if (typeof lines === 'string') {
      const nowMs = this.#options.clock.nowMs();
      const fromMs = nowMs - this.#options.settings.retentionMs;
      this.#lost.push({ fromMs, toMs: nowMs, reason: `when Spantrail ran is not known, ${lines}` });
      return;
    }
    for (const line of lines as RunLine[]) {
      if (line.kind === 'run') {
        const pause = line.paused === true ? { isPaused: true } : {};
        this.#runs.push({ startedMs: line.from, aliveMs: line.to, isClean: line.clean === true, ...pause });
      } else if (line.kind === 'refused') {
        this.#refusals.push({ fromMs: line.from, toMs: line.to, requests: line.requests ?? 0 });
      } else if (line.kind === 'lost') this.#lost.push({ fromMs: line.from, toMs: line.to, reason: line.reason ?? '' });
    }
  }

  async #readDay(name: string, day: number): Promise<void> {
    const lines = await this.#read(name, DAY_FORMAT, `the figures of ${name.slice(0, 10)}`);
    if (lines === undefined) return;
    if (typeof lines === 'string') {
      this.#lost.push({ fromMs: day * DAY_MS, toMs: (day + 1) * DAY_MS, reason: lines });
      return;
    }
    for (const { namespace, service, unwatched, ...cell } of lines as DayLine[]) {
      const hours = unwatched === true ? this.#unwatched : this.#hoursOf(namespace, service);
      addCounts(hours, { ...emptyCell(cell.hour, cell.firstMs), ...cell });
    }
  }

  /** The lines of a file; undefined when there is none; the reason when it was damaged and is put aside. */
  async #read(name: string, format: string, lost: string): Promise<readonly unknown[] | string | undefined> {
    const { disk, folder, report } = this.#options;
    const path = join(folder, name);
    const content = await readChecked(disk, path, format).catch((error: unknown) => {
      return { kind: 'damaged', reason: describeError(error) } as const;
    });
    if (content.kind === 'lines') return content.lines;
    if (content.kind === 'absent') return undefined;
    const aside = await putAside(disk, path).catch(() => path);
    report({ file: aside, reason: content.reason, lost });
    return `${name} could not be read: ${content.reason}`;
  }
}

function dropBefore({ cells }: ServiceHours, hour: number): void {
  const keep = cells.findIndex((cell) => cell.hour >= hour);
  cells.splice(0, keep < 0 ? cells.length : keep);
}

function dayOf(hour: number): number {
  return Math.floor(hour / 24);
}

function dayFile(day: number): string {
  return `${new Date(day * DAY_MS).toISOString().slice(0, 10)}.ndjson`;
}
