import type { Cell, LostDay, Refusal, Run, ServiceHours } from './facts.ts';

/** What the files of the coverage log hold, a JSON object a line. Numbers in a day's line that are zero are left out. */
export interface DayLine extends Cell {
  readonly namespace: string;
  readonly service: string;
  /** Set on the one line an hour that counts services beyond the limit. */
  readonly unwatched?: boolean;
}

/** Times in epoch milliseconds. */
export interface RunLine {
  readonly kind: 'run' | 'refused' | 'lost';
  readonly from: number;
  readonly to: number;
  readonly clean?: boolean;
  readonly paused?: boolean;
  readonly requests?: number;
  readonly reason?: string;
}

/** Every cell of the day. */
export function toDayLines(
  services: readonly ServiceHours[],
  unwatched: ServiceHours,
  day: number,
): Partial<DayLine>[] {
  const isOfDay = ({ hour }: Cell) => Math.floor(hour / 24) === day;
  const lines = services.flatMap(({ namespace, service, cells }) =>
    cells.filter(isOfDay).map((cell) => ({ namespace, service, ...withoutZeros(cell) })),
  );
  return [...lines, ...unwatched.cells.filter(isOfDay).map((cell) => ({ unwatched: true, ...withoutZeros(cell) }))];
}

function withoutZeros(cell: Cell): Partial<Cell> {
  return Object.fromEntries(Object.entries(cell).filter(([, value]) => value !== 0));
}

export function toRunLines(runs: readonly Run[], refusals: readonly Refusal[], lost: readonly LostDay[]): RunLine[] {
  return [
    ...runs.map(({ startedMs, aliveMs, isClean, isPaused }) => ({
      kind: 'run' as const,
      from: startedMs,
      to: aliveMs,
      clean: isClean,
      ...(isPaused ? { paused: true } : {}),
    })),
    ...refusals.map(({ fromMs, toMs, requests }) => ({ kind: 'refused' as const, from: fromMs, to: toMs, requests })),
    ...lost.map(({ fromMs, toMs, reason }) => ({ kind: 'lost' as const, from: fromMs, to: toMs, reason })),
  ];
}
