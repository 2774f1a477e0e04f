import type { Alert } from '../core/alert.ts';
import { DurableLines, type DurableLinesOptions } from './durable-lines.ts';
import type { Notice } from './notice.ts';

/** Alerts that are known to have been told of: so many, the oldest are forgotten first. 4 MB of memory. */
const KNOWN_MAX = 50_000;
/** Ids in one line. */
const IDS_A_LINE = 500;

const FORMAT = 'spantrail-alerts 1';

/** One line of the file. */
type Line =
  /** Alerts as they are now, which wait for the store, and notices as they are now: both or neither. */
  | readonly ['now', readonly Alert[], readonly Notice[]]
  /** The store has them as they were. */
  | readonly ['stored', readonly string[]]
  /** Alerts that were raised before. */
  | readonly ['known', readonly string[]]
  /** Notices that were delivered, or given up by a person. */
  | readonly ['gone', readonly string[]];

/**
 * The file `alerts` of the data folder: alerts that the store does not have yet, and notices that wait. Alert and notices are one
 * line, so that a crash leaves both or neither. What it holds is in memory; it changes there first and is durable when the
 * call's promise resolves.
 */
export class DeskFile {
  readonly unstored = new Map<string, Alert>();
  readonly notices = new Map<string, Notice>();
  readonly #known = new Set<string>();
  #file: DurableLines | undefined;

  private constructor() {}

  static async open(options: Pick<DurableLinesOptions, 'path' | 'disk' | 'report'>): Promise<DeskFile> {
    const desk = new DeskFile();
    const opened = await DurableLines.open({
      ...options,
      format: FORMAT,
      snapshot: () => desk.#snapshot(),
      size: () => desk.#size,
    });
    for (const line of opened.lines) desk.#fold(line as Line);
    desk.#file = opened.file;
    return desk;
  }

  /** Raised before, as far as is remembered. */
  isKnown(id: string): boolean {
    return this.#known.has(id);
  }

  add(alerts: readonly Alert[], notices: readonly Notice[]): Promise<void> {
    return this.#append(alerts.length + notices.length === 0 ? [] : [['now', alerts, notices]]);
  }

  /** Of these only those count that are still what waits: an alert that got more evidence meanwhile waits on. */
  stored(alerts: readonly Alert[]): Promise<void> {
    const ids = alerts.filter((alert) => this.unstored.get(alert.id) === alert).map(({ id }) => id);
    return this.#append(ids.length === 0 ? [] : [['stored', ids]]);
  }

  gone(ids: readonly string[]): Promise<void> {
    return this.#append([['gone', ids]]);
  }

  async close(): Promise<void> {
    await this.#file?.close();
  }

  #append(lines: readonly Line[]): Promise<void> {
    for (const line of lines) this.#fold(line);
    return this.#file?.append(lines) ?? Promise.resolve();
  }

  #fold(line: Line): void {
    switch (line[0]) {
      case 'now':
        for (const alert of line[1]) {
          this.unstored.set(alert.id, alert);
          this.#know(alert.id);
        }
        for (const notice of line[2]) this.notices.set(notice.id, notice);
        return;
      case 'stored':
        for (const id of line[1]) this.unstored.delete(id);
        return;
      case 'known':
        for (const id of line[1]) this.#know(id);
        return;
      case 'gone':
        for (const id of line[1]) this.notices.delete(id);
    }
  }

  #know(id: string): void {
    // What is raised again is remembered for longer.
    this.#known.delete(id);
    this.#known.add(id);
    if (this.#known.size <= KNOWN_MAX) return;
    for (const oldest of this.#known) {
      this.#known.delete(oldest);
      break;
    }
  }

  get #size(): number {
    return this.unstored.size + this.notices.size + this.#known.size / IDS_A_LINE;
  }

  #snapshot(): Line[] {
    const known = [...this.#known];
    const lines: Line[] = [];
    for (let at = 0; at < known.length; at += IDS_A_LINE) lines.push(['known', known.slice(at, at + IDS_A_LINE)]);
    for (const alert of this.unstored.values()) lines.push(['now', [alert], []]);
    for (const notice of this.notices.values()) lines.push(['now', [], [notice]]);
    return lines;
  }
}
