/** Limits that are part of the record's format. Limits that a user may want to move are settings (src/config). */

/** Longest stored text of any field. Below Elasticsearch's 32,766-byte term limit even at four bytes a character. */
export const FIELD_CHARS_MAX = 4096;

/** Longest stored stack trace: enough for the frames that name the fault. */
export const STACK_TRACE_CHARS_MAX = 8000;

/** Steps kept in `audit.path[]`: root to access; deeper paths keep both ends. */
export const PATH_STEPS_MAX = 64;

/** Entries kept in other lists of a record (checks, critical path, services, evidence, conflicts). */
export const LIST_ITEMS_MAX = 64;
