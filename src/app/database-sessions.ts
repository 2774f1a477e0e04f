import { join } from 'node:path';
import type { Scheduler } from '../core/clock.ts';
import type { FrameNote } from '../core/evidence.ts';
import type { Counters } from '../core/metrics.ts';
import { readChecked, writeChecked } from '../coverage/checked-file.ts';
import { createTie } from '../otlp/tie.ts';
import { DatabaseSessions } from '../otlp/tie-sessions.ts';
import type { Disk } from '../wal/disk.ts';
import type { StageLog } from './stages.ts';

/** The file of the data folder that holds which trace each database session worked for. */
const FILE = 'database-sessions';
const FORMAT = 'spantrail-database-sessions';

/** How often it is written while lines come: a kill loses so much of the memory, and then a line or two may come untied. */
const SAVE_MS = 15_000;

export interface DatabaseSessionsOptions {
  /** The data folder. */
  readonly folder: string;
  readonly disk: Disk;
  readonly scheduler: Scheduler;
  readonly counters: Counters;
  readonly log: StageLog;
}

export interface OpenDatabaseSessions {
  readonly tie: (payload: Buffer, note: FrameNote) => Buffer;
  /** Writes what is new. */
  close(): Promise<void>;
}

/**
 * Ties log records to traces with a memory of database sessions that outlives a restart. It is a help, not evidence: what cannot be
 * read or written is told once, and then lines without a trace of their own come untied.
 */
export async function openDatabaseSessions(options: DatabaseSessionsOptions): Promise<OpenDatabaseSessions> {
  const { folder, disk, scheduler, counters, log } = options;
  const path = join(folder, FILE);
  const sessions = new DatabaseSessions();
  const content = await readChecked(disk, path, FORMAT).catch((error: unknown) => {
    return { kind: 'damaged', reason: String(error) } as const;
  });
  if (content.kind === 'lines') sessions.load(content.lines);
  if (content.kind === 'damaged')
    log.warn({ path, reason: content.reason }, 'what is known of database sessions is lost');
  let saved = sessions.changes;
  let cancel: (() => void) | undefined;
  let saving = Promise.resolve();
  let isTold = false;
  const save = async (): Promise<void> => {
    const { changes } = sessions;
    if (changes === saved) return;
    try {
      await writeChecked(disk, path, FORMAT, sessions.save());
      saved = changes;
      isTold = false;
    } catch (error) {
      if (!isTold)
        log.warn({ error }, 'what is known of database sessions cannot be written; it is known until the next restart');
      isTold = true;
    }
  };
  const tie = createTie(counters, sessions);
  return {
    tie: (payload, note) => {
      const tied = tie(payload, note);
      if (sessions.changes !== saved && cancel === undefined) {
        cancel = scheduler.after(SAVE_MS, () => {
          cancel = undefined;
          saving = saving.then(save);
        });
      }
      return tied;
    },
    close: async () => {
      cancel?.();
      await saving;
      await save();
    },
  };
}
