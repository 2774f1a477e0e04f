import { PerformanceObserver } from 'node:perf_hooks';
import { getHeapSpaceStatistics, setFlagsFromString } from 'node:v8';

/** All of where new objects live, bytes: V8 lets it grow to sixteen times as much. */
const BYTES_MAX = 8 * 1024 * 1024;
/** Who says on the command line or in NODE_OPTIONS how large it is has the last word. */
const OWN_SIZE = /--(?:max|min)[-_]semi[-_]space[-_]size/;
/** By how much it grows at a time: not at all, and as V8 would have it. */
const FACTOR = { bounded: 1, free: 2 } as const;

/**
 * Keeps the young generation of this process at a size where collecting it, which stops everything, takes some milliseconds
 * instead of forty. What is alive in it is what is on its way to the store, so collecting it more often costs hardly more in
 * all. V8 asks for the factor each time that it is about to grow, on every thread: not for a process with worker threads that
 * settle. Returns what ends it.
 */
export function boundYoungGeneration(execArgv: readonly string[], nodeOptions = ''): () => void {
  if (OWN_SIZE.test([...execArgv, nodeOptions].join(' '))) return () => undefined;
  let factor: number = FACTOR.free;
  const grow = (by: number): void => {
    if (by !== factor) setFlagsFromString(`--semi-space-growth-factor=${by}`);
    factor = by;
  };
  // It shrinks in quiet times, and may grow again after them.
  const observer = new PerformanceObserver(() => grow(youngBytes() < BYTES_MAX ? FACTOR.free : FACTOR.bounded));
  observer.observe({ entryTypes: ['gc'] });
  return () => {
    observer.disconnect();
    grow(FACTOR.free);
  };
}

function youngBytes(): number {
  return getHeapSpaceStatistics().find(({ space_name }) => space_name === 'new_space')?.space_size ?? 0;
}
