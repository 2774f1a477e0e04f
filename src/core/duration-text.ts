const UNITS_NS: readonly (readonly [number, string])[] = [
  [3_600_000_000_000, 'h'],
  [60_000_000_000, 'min'],
  [1_000_000_000, 's'],
  [1_000_000, 'ms'],
  [1_000, 'µs'],
];

/** Nanoseconds for a person: `41 ms`, `1.2 s`. What rounds up to a unit is said in it. */
export function formatDuration(nanoseconds: number): string {
  for (const [size, unit] of UNITS_NS) {
    if (nanoseconds >= size * 0.9995) {
      const value = nanoseconds / size;
      return `${value >= 10 ? Math.round(value) : Math.round(value * 10) / 10} ${unit}`;
    }
  }
  return `${nanoseconds} ns`;
}
