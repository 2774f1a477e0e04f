import { type Change, groupName, NOTHING_SHOWN, type Seen } from './tracker.ts';

/**
 * The changes of one batch as JSON. Several rules look at one record, and many records are of one group: each is there once, and
 * changes name it by its number. Rules know nothing of each other; the changes of one rule stand in their order.
 */
export interface BatchChanges {
  /** Record, trace, time, one record after the other. */
  readonly records: readonly (string | number)[];
  /** Namespace, then the values. */
  readonly groups: readonly (readonly string[])[];
  /** One change after the other: kind, number of the record, number of the group, value, shown (0 for nothing); or `x`, record. */
  readonly rules: readonly (readonly [rule: string, rows: readonly unknown[]])[];
}

/** How many places a record has in `records`. */
const RECORD_PLACES = 3;

export type ChangesOfRule = readonly [rule: string, changes: readonly Change[]];

/** `seen`: the records that the changes name, each at its number. */
export function packChanges(seen: readonly Seen[], all: readonly ChangesOfRule[]): BatchChanges {
  const records: (string | number)[] = [];
  for (const { record, trace, timeMs } of seen) records.push(record, trace, timeMs);
  const groups: (readonly string[])[] = [];
  const groupNumbers = new Map<string, number>();
  const rules = all.map(([rule, changes]): [string, unknown[]] => {
    const rows: unknown[] = [];
    for (const change of changes) {
      if (change.kind === 'x') {
        rows.push('x', change.record);
        continue;
      }
      const { kind, group, value, shown } = change;
      let number = groupNumbers.get(group.key);
      if (number === undefined) {
        number = groupNumbers.size;
        groupNumbers.set(group.key, number);
        groups.push([group.namespace, ...group.values]);
      }
      rows.push(kind, change.seen.number, number, value, shown.length === 0 ? 0 : shown);
    }
    return [rule, rows];
  });
  return { records, groups, rules };
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
      const kind = rows[at] as Change['kind'];
      if (kind === 'x') {
        changes.push({ kind, record: rows[at + 1] as string });
        at += 2;
        continue;
      }
      const [record, number, value, shown] = rows.slice(at + 1, at + 5) as [number, number, string, 0 | string[]];
      const [one, group] = [seen[record], names[number]];
      if (one === undefined || group === undefined) throw new Error('a change names what is not there');
      changes.push({ kind, seen: one, group, value, shown: shown === 0 ? NOTHING_SHOWN : shown });
      at += 5;
    }
    return [rule, changes];
  });
}
