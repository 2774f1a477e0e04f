import { AppError, describeError } from '../../core/errors.ts';

/** What DuckDB's messages mean. Only how a message begins is looked at where further on it may quote a record. */

/** After it DuckDB refuses everything until the file is opened again: a disk that is full at a checkpoint, for example. */
export function isFatal(error: unknown): boolean {
  return /^FATAL Error|^[^"']*database has been invalidated/i.test(describeError(error));
}

/** A smaller batch may be taken. At a commit it says so in other words. */
export function isOutOfMemory(error: unknown): boolean {
  const atCommit = /^TransactionContext Error: Failed to commit: (failed to (pin|allocate)|could not allocate)/i;
  return /^Out of Memory Error/i.test(describeError(error)) || atCommit.test(describeError(error));
}

/** Nothing that another batch would do better with: the disk (when it is full, the commit fails), the file, or DuckDB itself. */
function isOfTheMachine(error: unknown): boolean {
  return (
    isFatal(error) ||
    /^(IO|Connection|Permission|TransactionContext|INTERRUPT|Serialization) Error/i.test(describeError(error))
  );
}

function isDamage(error: unknown): boolean {
  return /^[^:]*Error: (Corrupt database file|Could not read (enough|all) bytes)/i.test(describeError(error));
}

/** Why the file cannot be opened and what to do, as an AppError. */
export function asOpenFailure(file: string, error: unknown): AppError {
  if (error instanceof AppError) return error;
  return new AppError('storage', `cannot open the DuckDB file ${file}: ${whyNotOpened(file, error)}`, { cause: error });
}

function whyNotOpened(file: string, error: unknown): string {
  const line = firstLine(error);
  if (isDamage(error)) return damage(file, line);
  if (/Could not set lock|Conflicting lock/i.test(line)) return 'another process has it open';
  if (/version number|newer version|storage version/i.test(line)) {
    return 'a newer DuckDB wrote it; start the Spantrail that did, or name another file';
  }
  return /not a valid DuckDB/i.test(line) ? 'it is no DuckDB file' : line;
}

/** Why an open file does not work, as an AppError: `store_unavailable` when no record is at fault. */
export function asWorkFailure(file: string, what: string, error: unknown): AppError {
  if (error instanceof AppError) return error;
  const code = isOfTheMachine(error) ? 'store_unavailable' : 'internal';
  const line = firstLine(error);
  return new AppError(code, `DuckDB ${what}: ${isDamage(error) ? damage(file, line) : line}`, { cause: error });
}

function damage(file: string, line: string): string {
  const steps = `stop Spantrail, put a backup in place of ${file} and ${file}.wal (or move them away), start it again`;
  return `the file is damaged (${line}); ${steps}, and "spantrail reconcile --restore" brings back what the horizon still holds`;
}

export function firstLine(error: unknown): string {
  return describeError(error).split('\n')[0] ?? '';
}
