import type { KeySet } from './key-set.ts';
import type { SpanContents } from './span-contents.ts';
import { EVENT } from './tags.ts';
import type { ValueReader } from './value.ts';
import { WireError } from './wire.ts';

/** Parts of a span's key that are attributes of an event have a field of their own, that tells which event it is. */
const EVENT_FIELDS = 1 << 16;

/** Which of the events that say anything the part is of; negative for other parts. */
export function eventOf(field: number): number {
  return field - EVENT_FIELDS;
}

/**
 * Adds the attributes of the event from the cursor to `end` that anybody asks for. How many there are; -1 when it is too large, or not
 * written in the usual way.
 */
export function keyEvent(
  values: ValueReader,
  end: number,
  keys: KeySet,
  contents: SpanContents,
  number: number,
): number {
  const { cursor } = values;
  let added = 0;
  try {
    while (cursor.position < end) {
      const tag = cursor.tag(end);
      if (tag !== EVENT.attributes) {
        cursor.skip(tag, end);
        continue;
      }
      const key = values.peekAttribute(end, keys);
      if (key === undefined) return -1;
      if (key === null) continue;
      if (!contents.add(EVENT_FIELDS + number, values.attributeStart, cursor.position, key)) return -1;
      added++;
    }
  } catch (thrown) {
    if (thrown instanceof WireError) return -1;
    throw thrown;
  }
  return added;
}
