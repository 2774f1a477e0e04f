import { formatTimestamp } from '../core/clock.ts';
import { documentText } from '../core/document.ts';
import { type Addition, FormedRecord } from '../core/formed-record.ts';
import type { AuditRecord, PressureMetric } from '../core/record.ts';
import { editable, type RecordWrite, type WriteForm } from '../core/settlement.ts';
import type { MeasuredResource, PressureMemory, Series } from './pressure.ts';
import { keyOfPlace, type MeasuredPlace, nameOfPlace, placeOfRecord } from './pressure-places.ts';
import type { RingPoint } from './pressure-ring.ts';
import type { PressureRule } from './pressure-rules.ts';

/** Records of one batch that began and ended within the same so many milliseconds show the same points. */
const BUCKET_MS = 250;

/** What two services on one path may be measured on is looked at for this many places; an entry seldom has more than a few. */
const PLACES_PER_RECORD_MAX = 16;

export interface ShowSettings {
  /** A point is near a record when it was measured at most this long before its start or after its end. */
  readonly nearMs: number;
  /** The part of a limit from which on the pressure is called high. */
  readonly highShare: number;
  /** Metrics on one record, those nearest to their limits first. */
  readonly metricsMax: number;
}

/** What counts while records are annotated. */
export interface ShowCounts {
  /** Points that a record shows and none did before. */
  points: number;
  records: number;
}

type Shown = NonNullable<AuditRecord['audit']['pressure']>;

/**
 * Adds `audit.pressure` to records: what was measured near in time on what they ran on and, for an entry, on all services of its
 * trace. In place. A record that nothing was measured for stays as it is.
 */
export function showPressure(
  memory: PressureMemory,
  rules: readonly PressureRule[],
  settings: ShowSettings,
  writes: readonly RecordWrite[],
): ShowCounts {
  const counts = { points: 0, records: 0 };
  if (memory.isEmpty) return counts;
  const show = createShow(memory, rules, settings, counts);
  const subjects = writes.map(subjectOf);
  const byTrace = whereaboutsByTrace(subjects);
  for (const subject of subjects) {
    const { write, of } = subject;
    if (of.isSuperseded) continue;
    const startMs = Number(write.timestampNs) / 1e6;
    const endMs = startMs + (write.durationNs ?? write.record.event.duration) / 1e6;
    const shown = show(allOf(subject, byTrace), startMs, endMs);
    if (shown === undefined) continue;
    if (!addToForm(write, shown)) editable(write).audit.pressure = shown;
    counts.records++;
  }
  return counts;
}

/** What is asked of a record to find what was measured near it: the same for all records of a form. */
interface Placed {
  readonly own: Where;
  readonly isEntry: boolean;
  /** Those on its path. */
  readonly services: readonly string[];
  readonly isSuperseded: boolean;
}

interface Subject {
  readonly write: RecordWrite;
  readonly of: Placed;
  /** Undefined for what is of no trace. */
  readonly trace: string | undefined;
}

const PLACED = new WeakMap<WriteForm, Placed>();

function subjectOf(write: RecordWrite): Subject {
  const { form, namespace } = write;
  let of = form && PLACED.get(form);
  if (of === undefined) {
    of = placedOf(write.record);
    if (form !== undefined) PLACED.set(form, of);
  }
  const traceId = write.traceId ?? write.record.trace?.id;
  return { write, of, trace: traceId === undefined ? undefined : `${namespace}\0${traceId}` };
}

function placedOf(record: AuditRecord): Placed {
  const { entry, path = [], superseded_by } = record.audit;
  return {
    own: whereOf(placeOfRecord(record)),
    isEntry: entry,
    services: path.flatMap(({ service }) => service ?? []),
    isSuperseded: superseded_by !== undefined,
  };
}

/** Texts of what was shown last on records of a form, and the forms of records that show it. */
const ADDITIONS = new WeakMap<WriteForm, Map<string, Addition>>();
/** Records of a form at one time show the same; between two times of measuring there are two. */
const ADDITIONS_MAX = 4;
/** What is shown is one object for many records. */
const TEXTS = new WeakMap<Shown, string>();

/** Writes it into the text that the record is; false for another record. */
function addToForm(write: RecordWrite, shown: Shown): boolean {
  const { form } = write;
  if (!(write instanceof FormedRecord) || form?.gaps?.auditEnd === undefined) return false;
  let text = TEXTS.get(shown);
  if (text === undefined) {
    text = `,"pressure":${documentText(shown)}`;
    TEXTS.set(shown, text);
  }
  const known = ADDITIONS.get(form) ?? new Map<string, Addition>();
  ADDITIONS.set(form, known);
  let addition = known.get(text);
  if (addition === undefined || addition.toSize !== form.gaps.size) {
    if (known.size >= ADDITIONS_MAX) known.clear();
    // Nobody is told where its texts differ: DuckDB would keep what they share for ever, and what is measured changes all the time.
    addition = { text: Buffer.from(text), at: form.gaps.auditEnd, toSize: form.gaps.size, form: {} };
    known.set(text, addition);
  }
  return write.add(addition);
}

/** A place with its key: it takes longer to make one than to use it. */
interface Where {
  readonly place: MeasuredPlace;
  readonly key: string;
}

function whereOf(place: MeasuredPlace): Where {
  return { place, key: keyOfPlace(place) };
}

type ByTrace = ReadonlyMap<string, Map<string, Where>>;

/** Where each trace's records ran: records of one trace are written together. */
function whereaboutsByTrace(subjects: readonly Subject[]): ByTrace {
  const byTrace = new Map<string, Map<string, Where>>();
  for (const { trace, of } of subjects) {
    if (trace === undefined) continue;
    const known = byTrace.get(trace) ?? new Map<string, Where>();
    byTrace.set(trace, known);
    if (known.size < PLACES_PER_RECORD_MAX) known.set(of.own.key, of.own);
  }
  return byTrace;
}

/** Its own place first; an entry's trace has others. Services of which only the path tells are found by their names. */
function allOf({ of: { own, isEntry, services }, trace }: Subject, byTrace: ByTrace): readonly Where[] {
  if (!isEntry || trace === undefined) return [own];
  const all = new Map([[own.key, own]]);
  for (const [key, where] of byTrace.get(trace) ?? []) all.set(key, where);
  const known = new Set([...all.values()].map(({ place }) => place.service));
  for (const service of services) {
    if (known.has(service) || all.size >= PLACES_PER_RECORD_MAX) continue;
    known.add(service);
    const where = whereOf({ namespace: own.place.namespace, service });
    all.set(where.key, where);
  }
  return [...all.values()];
}

function createShow(
  memory: PressureMemory,
  rules: readonly PressureRule[],
  settings: ShowSettings,
  counts: ShowCounts,
): (whereabouts: readonly Where[], startMs: number, endMs: number) => Shown | undefined {
  const measured = new Map<string, readonly Measured[]>();
  const shown = new Map<string, Shown | undefined>();
  const measuredAt = ({ place, key }: Where, from: number, to: number): readonly Measured[] => {
    const bucket = `${from} ${to} ${key}`;
    let found = measured.get(bucket);
    if (found === undefined) {
      const resources = theOnes(memory.resourcesAt(place), place);
      const window = { startMs: from * BUCKET_MS, endMs: (to + 1) * BUCKET_MS, nearMs: settings.nearMs };
      found = resources.flatMap((resource) => measuredOn(resource, resources, rules, window));
      measured.set(bucket, found);
    }
    return found;
  };
  return (whereabouts, startMs, endMs) => {
    const from = Math.floor(startMs / BUCKET_MS);
    const to = Math.floor(endMs / BUCKET_MS);
    const key = `${from} ${to} ${whereabouts.map((where) => where.key).join('\x01')}`;
    if (shown.has(key)) return shown.get(key);
    const all = whereabouts.map((where) => measuredAt(where, from, to));
    const made = summarise(all.length === 1 ? (all[0] ?? []) : withoutRepeats(all.flat()), settings, counts);
    shown.set(key, made);
    return made;
  };
}

/** Two places may share a resource, such as their host. */
function withoutRepeats(measured: readonly Measured[]): readonly Measured[] {
  const known = new Set<Series>();
  return measured.filter(({ points }) => {
    const [series] = points[0] ?? [];
    if (series === undefined || known.has(series)) return false;
    known.add(series);
    return true;
  });
}

/**
 * Of a service that runs several times, where the evidence does not say which one it was, nothing is shown: what was measured on
 * another instance would only mislead. What was measured on the host stays.
 */
function theOnes(resources: readonly MeasuredResource[], ran: MeasuredPlace): readonly MeasuredResource[] {
  if (ran.instance !== undefined || ran.container !== undefined || ran.pod !== undefined) return resources;
  const instances = new Set<string>();
  for (const { place } of resources) {
    if (place.service !== undefined) instances.add(place.instance ?? place.container ?? place.pod ?? place.host ?? '');
  }
  return instances.size > 1 ? resources.filter(({ place }) => place.service === undefined) : resources;
}

interface Window {
  readonly startMs: number;
  readonly endMs: number;
  readonly nearMs: number;
}

/** A metric near in time, with the points that tell it. */
interface Measured {
  readonly metric: PressureMetric;
  readonly points: readonly (readonly [Series, RingPoint])[];
}

function measuredOn(
  resource: MeasuredResource,
  all: readonly MeasuredResource[],
  rules: readonly PressureRule[],
  window: Window,
): Measured[] {
  const found: Measured[] = [];
  for (const rule of rules) {
    const name = rule.names.find((each) => resource.series.has(each));
    if (name === undefined) continue;
    for (const [thing, series] of byThing(resource.series.get(name) ?? [])) {
      const points = pointsNear(series, window);
      if (points.length === 0) continue;
      found.push(measure(name, thing, resource, points, limitOf(rule, thing, resource, all, window, points)));
    }
  }
  return found;
}

function byThing(series: readonly Series[]): ReadonlyMap<string, Series[]> {
  const groups = new Map<string, Series[]>();
  for (const each of series) {
    const group = groups.get(each.thing);
    if (group) group.push(each);
    else groups.set(each.thing, [each]);
  }
  return groups;
}

type Points = (readonly [Series, RingPoint])[];

/** One point of each series; where there are several, those that were measured together. */
function pointsNear(series: readonly Series[], { startMs, endMs, nearMs }: Window): Points {
  const points: Points = [];
  let [fromMs, toMs] = [startMs, endMs];
  for (const each of series) {
    const point = each.ring.nearest(fromMs, toMs);
    if (point === undefined || point.timeMs < startMs - nearMs || point.timeMs > endMs + nearMs) continue;
    points.push([each, point]);
    [fromMs, toMs] = [point.timeMs, point.timeMs];
  }
  return points;
}

interface Limit {
  readonly value: number;
  readonly points: Points;
}

function limitOf(
  rule: PressureRule,
  thing: string,
  resource: MeasuredResource,
  all: readonly MeasuredResource[],
  window: Window,
  used: Points,
): Limit | undefined {
  const { limit, left = [] } = rule;
  if (typeof limit === 'number') return { value: limit, points: [] };
  const [, point] = used[0] ?? [];
  const at = point === undefined ? window : { ...window, startMs: point.timeMs, endMs: point.timeMs };
  const told = (names: readonly string[]) => {
    for (const name of names) {
      const points = pointsNear(seriesNamed(name, thing, resource, all), at);
      if (points.length > 0) return { value: sumOf(points), points };
    }
    return undefined;
  };
  const found = told(limit ?? []);
  if (found !== undefined) return found.value > 0 ? found : undefined;
  const rest = told(left);
  return rest && { value: sumOf(used) + rest.value, points: rest.points };
}

/** The same resource knows best; limits of containers come from another sender than what they use. */
function seriesNamed(
  name: string,
  thing: string,
  resource: MeasuredResource,
  all: readonly MeasuredResource[],
): readonly Series[] {
  const others = all.filter((other) => other !== resource && isSameContainer(other.place, resource.place));
  for (const each of [resource, ...others]) {
    const series = each.series.get(name) ?? [];
    const fitting = series.filter((one) => one.thing === thing || one.thing === '');
    if (fitting.length > 0) return fitting;
  }
  return [];
}

function isSameContainer(left: MeasuredPlace, right: MeasuredPlace): boolean {
  if (left.container !== undefined && right.container !== undefined) return left.container === right.container;
  return left.pod !== undefined && left.pod === right.pod && left.containerName === right.containerName;
}

function sumOf(points: Points): number {
  return points.reduce((sum, [, { value }]) => sum + value, 0);
}

function measure(
  name: string,
  thing: string,
  { place }: MeasuredResource,
  points: Points,
  limit: Limit | undefined,
): Measured {
  const value = sumOf(points);
  const timeMs = Math.max(...points.map(([, point]) => point.timeMs));
  const hasLimit = limit !== undefined && limit.value > 0;
  const metric: PressureMetric = {
    name,
    value: rounded(value),
    ...(hasLimit && { limit: rounded(limit.value), ratio: rounded(value / limit.value) }),
    at: formatTimestamp(BigInt(Math.round(timeMs * 1e3)) * 1_000n),
    of: [nameOfPlace(place), thing].filter((text) => text !== '').join(' '),
  };
  return { metric, points: hasLimit ? [...points, ...limit.points] : points };
}

/** Twelve digits: what sums of binary fractions have beyond is noise. */
function rounded(value: number): number {
  return Number(value.toPrecision(12));
}

function summarise(measured: readonly Measured[], settings: ShowSettings, counts: ShowCounts): Shown | undefined {
  const sorted = measured.toSorted((left, right) => compareMetrics(left.metric, right.metric));
  const kept = sorted.slice(0, settings.metricsMax);
  const [first] = kept;
  if (first === undefined) return undefined;
  for (const { points } of kept) {
    for (const [series, point] of points) if (series.ring.show(point)) counts.points++;
  }
  const { name, value, limit, ratio } = first.metric;
  const state = ratio === undefined || ratio < settings.highShare ? 'normal' : ratio < 1 ? 'high' : 'exhausted';
  const metrics = kept.map(({ metric }) => metric);
  return {
    ...{ state, metric: name, value },
    ...(limit !== undefined && { limit }),
    ...(ratio !== undefined && { ratio }),
    metrics,
  };
}

/** Those nearest to their limits first, those without one last. */
function compareMetrics(left: PressureMetric, right: PressureMetric): number {
  const byRatio = (right.ratio ?? -1) - (left.ratio ?? -1);
  if (byRatio !== 0) return byRatio;
  return `${left.name} ${left.of}` < `${right.name} ${right.of}` ? -1 : 1;
}
