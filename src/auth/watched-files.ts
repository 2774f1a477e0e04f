import { stat } from 'node:fs/promises';
import type { Scheduler } from '../core/clock.ts';

/** How often it is looked whether files were replaced: a few calls to the file system. */
export const LOOK_MS = 2000;

/**
 * Calls `read` when one of the files is another than at the last look. What it throws goes to `failed`, once for each state of the
 * files, and only when the next look still finds them so: certificate and key are seldom replaced in the same moment.
 */
export interface WatchedFiles {
  /** Looks at once, and believes what it finds. */
  look(): Promise<void>;
  close(): void;
}

export interface WatchOptions {
  readonly paths: readonly string[];
  readonly read: () => Promise<void>;
  /** With undefined when what failed before is read. */
  readonly failed: (cause: unknown) => void;
  readonly scheduler: Scheduler;
}

/** The files are as read by the caller just before. */
export async function watchFiles({ paths, read, failed, scheduler }: WatchOptions): Promise<WatchedFiles> {
  let used = await stampOf(paths);
  let tried = used;
  let told = used;
  let isClosed = false;
  let cancel = (): void => undefined;
  const look = async (isLast: boolean): Promise<void> => {
    const found = await stampOf(paths);
    if (found === used || found === told) return;
    try {
      await read();
      used = found;
      told = found;
    } catch (cause) {
      if (isLast || tried === found) {
        told = found;
        failed(cause);
      }
    }
    tried = found;
  };
  const wait = (): void => {
    if (!isClosed) cancel = scheduler.after(LOOK_MS, () => void look(false).finally(wait));
  };
  wait();
  return {
    look: () => look(true),
    close() {
      isClosed = true;
      cancel();
    },
  };
}

/** Of another file under the same name, also behind a link, at least one of these is another. */
async function stampOf(paths: readonly string[]): Promise<string> {
  const stamps = paths.map((path) =>
    stat(path).then(
      ({ ino, size, mtimeMs }) => `${ino} ${size} ${mtimeMs}`,
      () => 'absent',
    ),
  );
  return (await Promise.all(stamps)).join(', ');
}
