import { type Field, findField } from '../core/fields.ts';
import { compileHours } from './hours.ts';
import { compileField, compileMatch, type Predicate } from './predicate.ts';
import { numberOf, placeOf, type Reading } from './reading.ts';
import { type Rule, shownFields } from './rule.ts';
import { type GroupName, groupName, NOTHING_SHOWN } from './tracker.ts';

/** Groups that one record counts for: a record has few roles, and nobody shall multiply by sending many. */
const GROUPS_OF_RECORD_MAX = 16;
/** Longest value of a field that rules tell apart, characters. */
const VALUE_CHARS_MAX = 512;

type Read<Value> = (reading: Reading) => readonly Value[];

/** What a rule asks of each record, as functions. */
export interface Watch {
  readonly fits: Predicate;
  /** Only what lies outside of these times fits. */
  readonly isOutside: ((timeMs: number) => boolean) | undefined;
  readonly follows: Predicate | undefined;
  readonly groups: Read<GroupName>;
  /** What the rule compares; undefined: how long the access took. */
  readonly values: Read<string | number> | undefined;
  readonly shown: Read<string>;
}

export function compileWatch(rule: Rule): Watch {
  const isFollowed = rule.type === 'threshold' && rule.followedBy !== undefined;
  return {
    fits: compileMatch(rule.query, rule.inner),
    isOutside: rule.hours === undefined ? undefined : compileHours(rule.hours),
    follows: isFollowed && rule.followedBy ? compileMatch(rule.followedBy, rule.inner) : undefined,
    groups: compileGroups(rule.groupBy),
    values: compileValues(rule),
    shown: compileShown(rule),
  };
}

/** How long the access took, nanoseconds. */
export function durationOf(reading: Reading): number | undefined {
  const { durationNs } = reading;
  if (durationNs !== undefined) return durationNs;
  const [told] = readDuration(reading);
  return told === undefined ? undefined : Number(told);
}

const readDuration = compileNamed('event.duration');

/** Each combination of the fields' values; none when one of them is missing. */
function combine(fields: readonly Field[]): Read<readonly string[]> {
  const reads = fields.map(compileField);
  const [only] = reads;
  if (only !== undefined && reads.length === 1) {
    return (reading) =>
      only(reading)
        .slice(0, GROUPS_OF_RECORD_MAX)
        .map((value) => [value.slice(0, VALUE_CHARS_MAX)]);
  }
  return (reading) => {
    let all: string[][] = [[]];
    for (const read of reads) {
      const values = read(reading);
      all = all.flatMap((one) => values.map((value) => [...one, value.slice(0, VALUE_CHARS_MAX)]));
    }
    return all.slice(0, GROUPS_OF_RECORD_MAX);
  };
}

/** Rules that group alike share the groups of a record. */
function compileGroups(fields: readonly Field[]): Read<GroupName> {
  const number = numberOf(`groups ${fields.map(({ name }) => name).join()}`);
  const isLate = fields.some((field) => placeOf(field).isLate);
  const combinations = combine(fields);
  const ask: Read<GroupName> = (reading) => combinations(reading).map((values) => groupName(reading.namespace, values));
  return (reading) => reading.answer(number, isLate, ask);
}

/** Distinct values, new ones, failures. */
function compileValues(rule: Rule): Read<string | number> | undefined {
  const nothing = [0];
  if (rule.type === 'new_terms') {
    const terms = combine(rule.fields);
    return (reading) => terms(reading).map((values) => JSON.stringify(values));
  }
  if (rule.type === 'threshold' && rule.threshold.distinct !== undefined) {
    const read = compileField(rule.threshold.distinct);
    return (reading) =>
      read(reading)
        .slice(0, GROUPS_OF_RECORD_MAX)
        .map((value) => value.slice(0, VALUE_CHARS_MAX));
  }
  if (rule.type !== 'baseline' || rule.of === 'rate') return () => nothing;
  if (rule.of === 'latency') return undefined;
  const read = compileNamed('event.outcome');
  return (reading) => [read(reading)[0] === 'failure' ? 1 : 0];
}

function compileNamed(name: string): Read<string> {
  const field = findField(name);
  return field === undefined ? () => [] : compileField(field);
}

function compileShown(rule: Rule): Read<string> {
  const reads = shownFields(rule).map(compileNamed);
  if (reads.length === 0) return () => NOTHING_SHOWN;
  return (reading) => reads.map((read) => read(reading).join(', ').slice(0, VALUE_CHARS_MAX));
}
