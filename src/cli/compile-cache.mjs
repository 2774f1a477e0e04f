import { lstatSync, mkdirSync } from 'node:fs';
// As a whole: an old Node has no such function, and must still load this file to be told that it is too old.
import module from 'node:module';
import { homedir } from 'node:os';
import { join } from 'node:path';

/** Of a folder: its type and who may do what there. */
const PERMISSIONS = 0o777;
const OWNER_ALONE = 0o700;

/**
 * Keeps what V8 makes of the source, so that every start but the first is spared that: in `~/.cache/spantrail`, or where
 * NODE_COMPILE_CACHE says, and nowhere when that cannot be. Whoever could write there could have their code run, so the folder must
 * be this user's own and closed to all others. Node writes it when the process ends by itself.
 */
export function keepCompiled() {
  // Node has seen to it already; and without Linux's kind of users nobody could say whose a folder is.
  if (process.env.NODE_COMPILE_CACHE || process.getuid === undefined) return;
  try {
    const folder = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'spantrail', 'compiled');
    mkdirSync(folder, { recursive: true, mode: OWNER_ALONE });
    if (isOwn(folder)) module.enableCompileCache(folder);
  } catch {
    // A cache is no reason not to start.
  }
}

function isOwn(folder) {
  const found = lstatSync(folder);
  return found.isDirectory() && found.uid === process.getuid() && (found.mode & PERMISSIONS) === OWNER_ALONE;
}
