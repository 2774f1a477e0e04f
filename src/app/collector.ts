import { readdirSync, readFileSync } from 'node:fs';
import { getPriority, setPriority } from 'node:os';
import { constants, type NodeGCPerformanceDetail, PerformanceObserver } from 'node:perf_hooks';
import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/**
 * So many bytes are received until new objects are collected for them. What is received lies outside of V8's heap, twice (as it was
 * read, and as a message): it fills no young generation, and V8 would go through all of the heap for it.
 */
const RECEIVED_BYTES_MAX = 8 * 1024 * 1024;

/** How much may come to what is old, buffers outside of the heap included, until all of it is collected: in about 400,000 spans. */
const GROWTH_BYTES = 96 * 1024 * 1024;

/**
 * How nice V8's helper threads are, on Linux. Four of them then get half of a core for which the main thread has work, not four
 * fifths. With 10 it would be a third; what is collected while they get on so slowly took 60 MiB more.
 */
const NICE = 7;
const HELPER_NAME = 'V8Worker';

type Collect = (options: { readonly type: 'minor' }) => void;

export interface Collector {
  /** Told of bytes of requests as they come in, or as there is as much to do. */
  received(bytes: number): void;
  close(): void;
}

/**
 * Has V8 collect early what requests leave behind, and seldom all that is old; and has the threads that go through the heap for it step back:
 * while they do, the one thread that answers shares its core with four. It begins with the first bytes that come, so that no
 * start waits for it. What it sets holds for the whole process.
 */
export function tendCollector(): Collector {
  let bytes = 0;
  let collect: Collect | undefined;
  const observer = new PerformanceObserver((list) => {
    bytes = 0;
    for (const { detail } of list.getEntriesByType('gc') as unknown as { detail: NodeGCPerformanceDetail }[]) {
      if (detail.kind === constants.NODE_PERFORMANCE_GC_MAJOR) setGrowth();
    }
  });
  const begin = (): Collect => {
    observer.observe({ entryTypes: ['gc'] });
    setGrowth();
    lowerHelpers();
    return openCollect();
  };
  return {
    received(more) {
      collect ??= begin();
      bytes += more;
      if (bytes < RECEIVED_BYTES_MAX) return;
      bytes = 0;
      collect({ type: 'minor' });
    },
    close() {
      observer.disconnect();
      // What Node keeps of compiled code at its end is of use to starts with the same flags only.
      setFlagsFromString('--heap-growing-percent=0');
    },
  };
}

/** V8 gives the function to contexts that are made while the flag is set. */
function openCollect(): Collect {
  setFlagsFromString('--expose-gc');
  const collect: Collect = runInNewContext('gc');
  setFlagsFromString('--no-expose-gc');
  return collect;
}

/** V8 wants it in percent of what is left, which is about what was left the time before, and asks each time that all is collected. */
function setGrowth(): void {
  const percent = Math.ceil((100 * GROWTH_BYTES) / getHeapStatistics().used_heap_size);
  setFlagsFromString(`--heap-growing-percent=${percent}`);
}

/** Linux schedules each thread by itself, and takes a thread's number where setpriority(2) has that of a process. */
function lowerHelpers(): void {
  try {
    for (const thread of readdirSync('/proc/self/task')) {
      const name = readFileSync(`/proc/self/task/${thread}/comm`, 'utf8').trim();
      if (name === HELPER_NAME && getPriority(Number(thread)) < NICE) setPriority(Number(thread), NICE);
    }
  } catch {
    // Another system, or /proc is hidden: they run beside the others then.
  }
}
