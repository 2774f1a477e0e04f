import type { Settings } from '../config/schema.ts';
import type { Clock } from '../core/clock.ts';
import type { FrameNote, Resource } from '../core/evidence.ts';
import type { Counters } from '../core/metrics.ts';
import type { RecordWrite } from '../core/settlement.ts';
import { PressureMemory, type Taken } from '../enrich/pressure.ts';
import { type MeasuredPlace, PLACE_KEYS, placeOfResource } from '../enrich/pressure-places.ts';
import { withOwnRules } from '../enrich/pressure-rules.ts';
import { showPressure } from '../enrich/pressure-shown.ts';
import { compileKeys } from '../otlp/key-set.ts';
import { readMetrics } from '../otlp/metrics.ts';
import { scanMetrics } from '../otlp/scan.ts';

/** Takes metrics in and shows them on records. */
export interface Pressure {
  observe(payload: Buffer, note: FrameNote): void;
  annotate(writes: readonly RecordWrite[]): void;
}

export interface PressureOptions {
  readonly settings: Settings['pressure'];
  readonly clock: Clock;
  readonly counters: Counters;
}

/**
 * Points of listed metrics that are read of one request, on the thread that answers all senders: they take about a tenth of a
 * second. Exporters send some hundreds, a Collector's batch some thousands.
 */
const POINTS_PER_REQUEST_MAX = 20_000;

/** Why points of listed metrics are not kept, as counted. */
const REFUSALS: ReadonlySet<Taken> = new Set(['no_place', 'full']);

/**
 * Every point that is accepted is counted once: as pending while it is kept and no record shows it, then as used or as expired;
 * as a duplicate; or as context, when it is not of the list or could not be kept. Throws AppError('config').
 */
export function openPressure({ settings, clock, counters }: PressureOptions): Pressure {
  const use = (name: string, points: number) => {
    if (points > 0) counters.add('evidence', points, { signal: 'metrics', use: name });
  };
  const leave = (name: 'used' | 'expired', points: number) => {
    if (points > 0) counters.add('pressure_points', -points);
    use(name, points);
  };
  const rules = settings.enabled ? withOwnRules(settings.metrics, settings.defaults) : [];
  const memory = new PressureMemory(rules, settings, (points) => leave('expired', points));
  const wanted = {
    names: compileKeys(memory.names),
    resourceKeys: compileKeys(PLACE_KEYS),
    pointsMax: POINTS_PER_REQUEST_MAX,
  };

  const take = (payload: Buffer, note: FrameNote): Map<Taken, number> => {
    const taken = new Map<Taken, number>();
    const receivedMs = clock.nowMs();
    let last: { readonly resource: Resource; readonly place: MeasuredPlace | undefined } | undefined;
    const beyond = readMetrics(payload, wanted, (point) => {
      if (last?.resource !== point.resource) {
        last = { resource: point.resource, place: placeOfResource(note.namespace, point.resource) };
      }
      const became = memory.offer(point, last.place, receivedMs);
      if (became === 'kept') counters.add('pressure_points', 1);
      taken.set(became, (taken.get(became) ?? 0) + 1);
    });
    if (beyond > 0) counters.add('pressure_refused', beyond, { reason: 'request' });
    return taken;
  };

  return {
    observe(payload, note) {
      const scanned = scanMetrics(payload);
      const points = scanned.ok ? scanned.items : 0;
      if (!settings.enabled) return use('context', points);
      // What is shown on records of others is taken from senders that are believed only.
      if (!note.trusted) {
        counters.add('pressure_refused', points, { reason: 'untrusted' });
        return use('context', points);
      }
      memory.sweep(clock.nowMs());
      const taken = take(payload, note);
      const duplicates = taken.get('duplicate') ?? 0;
      use('duplicate', duplicates);
      use('context', points - (taken.get('kept') ?? 0) - duplicates);
      for (const [became, count] of taken) {
        if (REFUSALS.has(became)) counters.add('pressure_refused', count, { reason: became });
      }
      counters.set('pressure_series', memory.seriesCount);
    },
    annotate(writes) {
      if (memory.isEmpty) return;
      memory.sweep(clock.nowMs());
      const { points, records } = showPressure(memory, rules, settings, writes);
      leave('used', points);
      counters.add('pressure_shown', records);
      counters.set('pressure_series', memory.seriesCount);
    },
  };
}
