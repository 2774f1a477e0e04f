/** Slots, a power of two: enough for the names, hosts and methods that repeat within the payloads of one moment. */
const SLOTS = 4096;

/** Longer texts (statements, stack traces) seldom repeat, and hashing them costs as much as making them. */
const CACHED_BYTES_MAX = 48;

const slots: string[] = new Array(SLOTS).fill('');

/**
 * The text at these bytes. Short ASCII texts come from a cache of fixed size that all payloads share: making a string out of
 * bytes costs several times more than comparing, and most attribute values repeat.
 */
export function cachedText(buffer: Buffer, start: number, end: number): string {
  const length = end - start;
  if (length === 0) return '';
  if (length > CACHED_BYTES_MAX) return buffer.toString('utf8', start, end);
  let hash = length;
  for (let index = start; index < end; index++) hash = (Math.imul(hash, 31) + (buffer[index] as number)) | 0;
  const slot = (hash ^ (hash >>> 15)) & (SLOTS - 1);
  const cached = slots[slot] as string;
  if (cached.length === length && equals(cached, buffer, start)) return cached;
  const text = buffer.toString('utf8', start, end);
  slots[slot] = text;
  return text;
}

function equals(text: string, buffer: Buffer, start: number): boolean {
  for (let index = 0; index < text.length; index++) if (text.charCodeAt(index) !== buffer[start + index]) return false;
  return true;
}
