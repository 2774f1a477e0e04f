import { type Change, type GroupName, groupName, NOTHING_SHOWN, type Seen } from './tracker.ts';

/**
 * The changes of one batch as JSON. Several rules look at one record, and many records are of one group: each is there once, and
 * changes name it by its number. Rules know nothing of each other; the changes of one rule stand in their order.
 */
export interface BatchChanges {
  /** Record, trace, time, one record after the other. */
  readonly records: readonly (string | number)[];
  /** Namespace, then the values. */
  readonly groups: readonly (readonly string[])[];
  /**
   * One change after the other: kind, number of the record, number of the group, value, shown (0 for nothing); the same of a match
   * that shows nothing, as most do, without its kind and what is shown; or `x`, record.
   */
  readonly rules: readonly (readonly [rule: string, rows: readonly unknown[]])[];
}

/** How many places a record has in `records`. */
const RECORD_PLACES = 3;

export type ChangesOfRule = readonly [rule: string, changes: readonly Change[]];

/** Packs the changes of a batch as they come, so that nothing but plain values waits for its end. */
export class ChangePacker {
  #records: (string | number)[] = [];
  #groups: (readonly string[])[] = [];
  readonly #groupNumbers = new Map<string, number>();

  /** Adds to the rows of its rule. */
  add(rows: unknown[], change: Change): void {
    if (change.kind === 'x') {
      rows.push('x', change.record);
      return;
    }
    const { kind, seen, group, value, shown } = change;
    if (seen.number < 0) {
      seen.number = this.#records.length / RECORD_PLACES;
      this.#records.push(seen.record, seen.trace, seen.timeMs);
    }
    const number = this.#groupNumbers.get(group.key) ?? this.#addGroup(group);
    if (kind === 'm' && shown.length === 0) rows.push(seen.number, number, value);
    else rows.push(kind, seen.number, number, value, shown.length === 0 ? 0 : shown);
  }

  /** All since the last call, with the rows of each rule. */
  take(rules: BatchChanges['rules']): BatchChanges {
    const batch = { records: this.#records, groups: this.#groups, rules };
    this.#records = [];
    this.#groups = [];
    this.#groupNumbers.clear();
    return batch;
  }

  #addGroup({ key, namespace, values }: GroupName): number {
    const number = this.#groups.push([namespace, ...values]) - 1;
    this.#groupNumbers.set(key, number);
    return number;
  }
}

/** Throws for what is none. */
export function unpackChanges({ records, groups, rules }: BatchChanges): ChangesOfRule[] {
  const seen: Seen[] = [];
  for (let at = 0; at < records.length; at += RECORD_PLACES) {
    const [record, trace, timeMs] = records.slice(at, at + RECORD_PLACES) as [string, string, number];
    seen.push({ record, trace, timeMs, number: seen.length });
  }
  const names = groups.map(([namespace = '', ...values]) => groupName(namespace, values));
  return rules.map(([rule, rows]) => {
    const changes: Change[] = [];
    for (let at = 0; at < rows.length; ) {
      const first = rows[at] as number | Change['kind'];
      if (first === 'x') {
        changes.push({ kind: first, record: rows[at + 1] as string });
        at += 2;
        continue;
      }
      const isPlain = typeof first === 'number';
      const places = rows.slice(isPlain ? at : at + 1, isPlain ? at + 3 : at + 5);
      const [record, number, value, shown = 0] = places as [number, number, string, (0 | string[])?];
      const [one, group] = [seen[record], names[number]];
      if (one === undefined || group === undefined) throw new Error('a change names what is not there');
      changes.push({
        kind: isPlain ? 'm' : first,
        seen: one,
        group,
        value,
        shown: shown === 0 ? NOTHING_SHOWN : shown,
      });
      at += isPlain ? 3 : 5;
    }
    return [rule, changes];
  });
}
