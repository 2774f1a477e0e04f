/**
 * Latency in bands of a fixed scale, ten to a decade (the Renard series R10, which engineers round prices and sizes to), from one
 * microsecond to a quarter of an hour. Counts by band are exact on every store, where percentiles are estimated differently.
 */
const STEPS = [100, 125, 160, 200, 250, 315, 400, 500, 630, 800];

const MICROSECOND_NS = 1_000;
const DECADES = 9;

export const LATENCY_BOUNDS_NS: readonly number[] = Array.from({ length: DECADES }, (_, decade) =>
  STEPS.map((step) => (step / 100) * MICROSECOND_NS * 10 ** decade),
).flat();

/** So many of a hundred took at most this long: the end of a band, or the longest of all if that is less. */
export function percentileNs(bands: readonly number[], percent: number, maxNs: number | undefined): number | null {
  const total = bands.reduce((sum, count) => sum + count, 0);
  if (total === 0 || maxNs === undefined) return null;
  let seen = 0;
  for (const [at, count] of bands.entries()) {
    seen += count;
    if (seen >= (percent / 100) * total) return Math.min(maxNs, LATENCY_BOUNDS_NS[at] ?? maxNs);
  }
  return maxNs;
}
