/** Pairs below which a coefficient says nothing: with fewer, chance alone gives 0.6 in one of twenty cases. */
export const PAIRS_MIN = 12;

export type Correlation =
  | { readonly kind: 'known'; readonly r: number; readonly low: number; readonly high: number; readonly pairs: number }
  | { readonly kind: 'too_few'; readonly pairs: number }
  | { readonly kind: 'constant'; readonly pairs: number; readonly of: 'first' | 'second' };

/** Two-sided 95 % of the normal distribution. */
const Z_95 = 1.96;

/**
 * Pearson's coefficient with its 95 % interval by Fisher's transformation, which takes the pairs as independent of each other:
 * minutes in a row seldom are, so the true interval is wider.
 */
export function correlate(pairs: readonly (readonly [number, number])[]): Correlation {
  const count = pairs.length;
  if (count < PAIRS_MIN) return { kind: 'too_few', pairs: count };
  const mean = (at: 0 | 1) => pairs.reduce((sum, pair) => sum + pair[at], 0) / count;
  const [meanX, meanY] = [mean(0), mean(1)];
  let [xx, yy, xy] = [0, 0, 0];
  for (const [x, y] of pairs) {
    xx += (x - meanX) ** 2;
    yy += (y - meanY) ** 2;
    xy += (x - meanX) * (y - meanY);
  }
  if (xx === 0 || yy === 0) return { kind: 'constant', pairs: count, of: xx === 0 ? 'first' : 'second' };
  const r = Math.min(1, Math.max(-1, xy / Math.sqrt(xx * yy)));
  const width = Z_95 / Math.sqrt(count - 3);
  return {
    ...{ kind: 'known', pairs: count, r: rounded(r) },
    low: rounded(Math.tanh(Math.atanh(r) - width)),
    high: rounded(Math.tanh(Math.atanh(r) + width)),
  };
}

function rounded(value: number): number {
  return Math.round(value * 1000) / 1000;
}
