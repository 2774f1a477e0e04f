import { readFileSync, writeFileSync } from 'node:fs';
import { sleep } from './probe.ts';

/** Linux counts CPU time in hundredths of a second everywhere that Node and Go run. */
const TICKS_A_SECOND = 100;
/** A process that uses less than this share of a core for as long as QUIET_MS does nothing more of what it was given. */
const QUIET_SHARE = 0.04;
const QUIET_MS = 700;
const QUIET_MS_MAX = 600_000;

/** What a process has cost so far, as Linux counts it. */
export interface ProcessUse {
  /** CPU seconds since its start, user and system, all threads. */
  cpuSeconds(): number;
  /** Largest resident memory since its start or since `forgetPeak`, bytes. */
  peakMemoryBytes(): number;
  forgetPeak(): void;
}

export function processUse(pid: number | undefined): ProcessUse {
  return {
    cpuSeconds() {
      // proc_pid_stat(5): the name in parentheses may hold spaces; utime and stime are fields 14 and 15, 11 and 12 after it.
      const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
        .replace(/^.*\) /, '')
        .split(' ');
      return (Number(fields[11]) + Number(fields[12])) / TICKS_A_SECOND;
    },
    peakMemoryBytes() {
      const status = readFileSync(`/proc/${pid}/status`, 'utf8');
      return Number(/VmHWM:\s*(\d+) kB/.exec(status)?.[1]) * 1024;
    },
    forgetPeak() {
      // proc(5): 5 sets the peak back to what is resident now.
      writeFileSync(`/proc/${pid}/clear_refs`, '5');
    },
  };
}

/** Resolves when the process has used next to nothing for a while: whatever it still had to do in the background is done. */
export async function untilQuiet(use: ProcessUse): Promise<void> {
  const startedMs = performance.now();
  let before = use.cpuSeconds();
  while (performance.now() - startedMs < QUIET_MS_MAX) {
    await sleep(QUIET_MS);
    const now = use.cpuSeconds();
    if (now - before < (QUIET_SHARE * QUIET_MS) / 1000) return;
    before = now;
  }
  throw new Error('the process did not become quiet');
}
