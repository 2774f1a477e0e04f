import { firstAfter } from './tracker.ts';

interface Counted {
  readonly timeMs: number;
  readonly value: string;
  /** An abnormal time, and somebody was told. */
  readonly isHot: boolean;
  readonly isTold: boolean;
}

/** Most distinct values in one of the windows that end at a time that was told, between two times; in one go. */
export function mostDistinct(
  byTime: readonly Counted[],
  windowMs: number,
  { fromMs, toMs }: { readonly fromMs: number; readonly toMs: number },
): number {
  const held = new Map<string, number>();
  let first = firstAfter(byTime, fromMs - windowMs);
  let most = 0;
  for (const entry of byTime.slice(first, firstAfter(byTime, toMs))) {
    held.set(entry.value, (held.get(entry.value) ?? 0) + 1);
    for (let old = byTime[first]; old && old.timeMs <= entry.timeMs - windowMs; old = byTime[++first]) {
      const rest = (held.get(old.value) ?? 0) - 1;
      if (rest > 0) held.set(old.value, rest);
      else held.delete(old.value);
    }
    if (entry.isHot && entry.isTold && entry.timeMs >= fromMs) most = Math.max(most, held.size);
  }
  return most;
}
