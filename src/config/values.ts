import { z } from 'zod';

const DURATION_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const SIZE_BYTES: Readonly<Record<string, number>> = { B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 };

function withUnit(units: Readonly<Record<string, number>>, example: string) {
  const pattern = new RegExp(`^(\\d+(?:\\.\\d+)?)\\s*(${Object.keys(units).join('|')})$`);
  return z.union([
    z.int().nonnegative(),
    z
      .string()
      .regex(pattern, `must be a whole number or a number with a unit, for example ${example}`)
      .transform((text) => {
        const [, amount = '0', unit = ''] = pattern.exec(text) ?? [];
        return Math.round(Number(amount) * (units[unit] ?? 1));
      }),
  ]);
}

/** Milliseconds, without a default. */
export const duration = withUnit(DURATION_MS, '10s');

/** Milliseconds, written as a number or with a unit: `500ms`, `10s`, `2m`, `1h`, `30d`. */
export function durationMs(byDefault: string) {
  return withUnit(DURATION_MS, '10s').prefault(byDefault);
}

/** Bytes, without a default. */
export const bytes = withUnit(SIZE_BYTES, '64MiB');

/** Bytes, written as a number or with a unit: `64MiB`, `8GiB`. */
export function sizeBytes(byDefault: string) {
  return withUnit(SIZE_BYTES, '64MiB').prefault(byDefault);
}

export function port(byDefault: number) {
  return z.int().min(0).max(65_535).default(byDefault);
}
