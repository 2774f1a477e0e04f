import type { AccessSections, Actor } from '../access/access.ts';
import type { FoundCheck } from './checks.ts';
import type { Finding } from './findings.ts';
import type { AccessTimes } from './times.ts';
import type { TraceFacts } from './trace-facts.ts';
import type { Explaining, Origin, Why } from './why.ts';

/** What was found out about an access with an eye on the whole trace. */
export interface AccessContext {
  readonly actor: Actor;
  /** Where the request came from, as its outermost server saw it. */
  readonly source: Pick<AccessSections, 'source' | 'user_agent'>;
  /** How many other contents of its span were sent. */
  readonly rivals: number;
  /** What its checks rest on, and what else explains its end. */
  readonly explaining: readonly Explaining[];
  /** The failing span that explains it, where it failed. */
  readonly origin: Origin | undefined;
}

/** All that one record is made of. */
export interface Parts extends AccessContext {
  readonly facts: TraceFacts;
  readonly finding: Finding;
  readonly times: AccessTimes;
  readonly why: Why;
  /** The check for which it was refused. */
  readonly refusing: FoundCheck | undefined;
}

/**
 * Remembers its last answer. Records of a trace are made one after the other, and what several of them say alike is one object: nobody
 * changes parts of records in place.
 */
export function sharing<Key, Value>(make: (key: Key) => Value): (key: Key) => Value {
  let last: { readonly key: Key; readonly value: Value } | undefined;
  return (key) => {
    if (last === undefined || last.key !== key) last = { key, value: make(key) };
    return last.value;
  };
}
