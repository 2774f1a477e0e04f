import { readFileSync } from 'node:fs';

const SAMPLE_MS = 250;
const MIB = 1024 ** 2;

/** Resident memory of a process, MiB; undefined when it is gone. */
export function residentMiB(pid: number): number | undefined {
  try {
    const kilobytes = /VmRSS:\s*(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    return kilobytes === undefined ? undefined : Math.round((Number(kilobytes) * 1024) / MIB);
  } catch {
    return undefined;
  }
}

/** Looks at a process's memory several times a second; tells the highest figure of each phase. */
export function watchMemory(pid: number): { enter(phase: string): void; stop(): Readonly<Record<string, number>> } {
  const peaks: Record<string, number> = {};
  let phase = 'start';
  const timer = setInterval(() => {
    peaks[phase] = Math.max(peaks[phase] ?? 0, residentMiB(pid) ?? 0);
  }, SAMPLE_MS);
  return {
    enter: (next) => {
      phase = next;
    },
    stop: () => {
      clearInterval(timer);
      return peaks;
    },
  };
}
