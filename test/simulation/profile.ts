import { type Settings, settingsSchema } from '../../src/config/schema.ts';
import type { DiskRates } from './faulty-disk.ts';
import type { StoreRates } from './faulty-store.ts';
import type { Random } from './random.ts';

/** What one seed stands for: the settings, how much goes wrong, and for how long. */
export interface Profile {
  readonly settings: Settings;
  readonly traces: number;
  readonly largeSpans: number;
  readonly lateMaxMs: number;
  /** Requests and faults come during this time; then all heals. */
  readonly durationMs: number;
  readonly disk: DiskRates;
  readonly store: StoreRates;
  /** Mean time between two ends of the process; 0 for never. */
  readonly killEveryMs: number;
  /** Mean time between two steps of the clock; 0 for never. */
  readonly clockStepEveryMs: number;
  readonly clockStepMaxMs: number;
  /** Do others take all of the disk now and then? */
  readonly fillsDisk: boolean;
  readonly refusedPermille: number;
  readonly brittlePermille: number;
}

const KIB = 1024;

/** Half of the seeds have no fault of a kind: then what another kind does is seen more clearly. */
function rate(random: Random, ...rates: number[]): number {
  return random.chance(0.5) ? 0 : random.pick(rates);
}

export function profileOf(random: Random): Profile {
  const isSmallHorizon = random.chance(0.2);
  const spansMax = random.pick([8, 24, 10_000, 10_000]);
  const settings = settingsSchema.parse({
    receive: { trustedPeers: ['10.0.0.0/8'], vouchingPeers: ['10.0.0.8/32'] },
    wal: {
      segmentBytes: random.pick([2 * KIB, 8 * KIB, 64 * KIB]),
      unsettledBytesMax: random.chance(0.2) ? 24 * KIB : 1024 * KIB * KIB,
      horizonBytesMax: isSmallHorizon && random.chance(0.5) ? 16 * KIB : 1024 * KIB * KIB,
      horizonAgeMs: isSmallHorizon ? random.int(20_000, 120_000) : 3_600_000,
      compaction: random.chance(0.8),
      reserveBytes: random.pick([0, 4 * KIB]),
      freeBytesMin: random.pick([0, 2 * KIB]),
      cacheBytesMax: random.pick([0, 16 * KIB, 1024 * KIB]),
    },
    join: {
      graceMs: random.pick([50, 500]),
      rootWaitMs: random.pick([500, 5_000]),
      idleMs: random.pick([500, 3_000]),
      maxAgeMs: random.pick([2_000, 30_000]),
      spansMax,
      indexBytesMax: random.chance(0.15) ? random.int(48, 128) * KIB : 16 * KIB * KIB,
      lateWaitMaxMs: random.pick([1_000, 20_000]),
    },
    store: { batchRecordsMax: random.pick([2, 10, 5_000]) },
  });
  const durationMs = random.pick([15_000, 40_000, 120_000]);
  return {
    settings,
    traces: random.int(3, 16),
    largeSpans: spansMax < 100 ? spansMax : 40,
    lateMaxMs: random.pick([2_000, durationMs / 2, durationMs]),
    durationMs,
    disk: {
      fails: rate(random, 0.005, 0.05, 0.2),
      failsButPersisted: rate(random, 0.005, 0.05, 0.2),
      kills: rate(random, 0.005, 0.02, 0.05),
      stalls: rate(random, 0.01, 0.1),
    },
    store: {
      unavailable: rate(random, 0.05, 0.3, 0.9),
      throws: rate(random, 0.05, 0.3),
      stalls: rate(random, 0.02, 0.2),
    },
    killEveryMs: rate(random, 5_000, 15_000, 60_000),
    clockStepEveryMs: random.chance(0.7) ? 0 : 20_000,
    clockStepMaxMs: random.pick([2_000, 60_000, 4_000_000, 31_536_000_000]),
    fillsDisk: random.chance(0.25),
    refusedPermille: rate(random, 20, 200),
    // A store that fails with all that one write and the next hold cannot be told from one that is away: that is waited for.
    brittlePermille: settings.store.batchRecordsMax < 10 ? 0 : rate(random, 20, 60),
  };
}
