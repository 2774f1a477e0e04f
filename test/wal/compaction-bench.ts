import { randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { Wal } from '../../src/wal/wal.ts';
import { buildTemplate, freshen, GRPC_PREFIX_BYTES, SPANS_A_REQUEST, uniqueValues } from '../bench/workload.ts';
import { frameOf } from './helpers.ts';

/**
 * What compaction gives and costs, on the bench's requests with ids, times and some values of every span made random:
 * `node test/wal/compaction-bench.ts [seconds]`. Phases of a second with and without compaction take turns for as long, so that
 * what else the machine does meets both alike.
 */
const PHASE_MS = 1000;
const turns = Number(process.argv[2] ?? 20) / 2;
const folder = join(tmpdir(), `spantrail-compaction-bench-${process.pid}`);
const template = buildTemplate();
const unique = uniqueValues();

/** A few hundred distinct requests, made beforehand so that making them is not measured. */
const payloads = Array.from({ length: 200 }, (_, number) => {
  const bytes = Buffer.from(template.bytes);
  freshen(bytes, template, unique(), 1.79e12 + number * 51);
  for (const [span, at] of template.traceIdsAt.entries()) {
    // Trace id, span id and parent id, and 16 bytes of attribute values.
    for (const [length, offset] of [
      [16, 0],
      [8, 18],
      [8, 28],
      [12, 90],
      [4, 200],
    ] as const)
      randomBytes(length).copy(bytes, at + offset);
    for (const time of [span, span + template.traceIdsAt.length])
      randomBytes(4).copy(bytes, template.times[time]?.at ?? 0);
  }
  return bytes.subarray(GRPC_PREFIX_BYTES);
});

let appended = 0;
const frameNext = () => ({ ...frameOf(1), payload: payloads[appended++ % payloads.length] ?? Buffer.alloc(0) });

interface Figures {
  readonly latenciesMs: number[];
  readonly spansASecond: number[];
  readonly cpuShares: number[];
}

async function loadPhase(wal: Wal, requestsASecond: number, figures: Figures): Promise<void> {
  const startMs = performance.now();
  const cpu = process.cpuUsage();
  let requests = 0;
  const senders = Array.from({ length: 16 }, async (_, sender) => {
    for (let turn = 0; performance.now() - startMs < PHASE_MS; turn += 1) {
      const dueMs = requestsASecond === 0 ? 0 : startMs + ((turn * 16 + sender) * 1000) / requestsASecond;
      await setTimeout(Math.max(0, dueMs - performance.now()));
      const beginMs = performance.now();
      await wal.append(frameNext());
      figures.latenciesMs.push(performance.now() - beginMs);
      requests += 1;
    }
  });
  await Promise.all(senders);
  const seconds = (performance.now() - startMs) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  figures.spansASecond.push((requests * SPANS_A_REQUEST) / seconds);
  figures.cpuShares.push((user + system) / 1e6 / seconds);
}

function at(values: readonly number[], share: number): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length * share)] ?? 0;
}

function words({ latenciesMs, spansASecond, cpuShares }: Figures): string {
  const mean = spansASecond.reduce((sum, spans) => sum + spans, 0) / spansASecond.length;
  const latency = `ack p50 ${at(latenciesMs, 0.5).toFixed(1)} p99 ${at(latenciesMs, 0.99).toFixed(1)} ms`;
  return `${Math.round(mean)} spans/s (median ${Math.round(at(spansASecond, 0.5))}), ${latency}, CPU ${(at(cpuShares, 0.5) * 100).toFixed(0)} %`;
}

const wal = await Wal.open({
  folder,
  segmentBytes: 64 * 1024 * 1024,
  cacheBytesMax: 0,
  report: (found) => console.error(found),
});
try {
  for (let filled = 0; filled < 1.2e9; ) filled += await wal.append(frameNext()).then(() => 347_000);
  await setTimeout(500);
  const files = () => wal.segments().reduce((sum, { bytes }) => sum + bytes, 0);
  const compactAll = async (isOver: () => boolean, from = 0) => {
    let [raw, compressed] = [0, 0];
    for (const { segment, sealed, bytes } of wal.segments().slice(from)) {
      if (isOver() || !sealed || !wal.startCompaction(segment)) continue;
      while (wal.isCompacting && !isOver()) await setTimeout(1);
      await wal.stopCompaction();
      const after = wal.segments().find((one) => one.segment === segment)?.bytes ?? bytes;
      if (after !== bytes) [raw, compressed] = [raw + bytes, compressed + after];
    }
    return [raw, compressed] as const;
  };
  const cpu = process.cpuUsage();
  const beginMs = performance.now();
  let done = 0;
  const [raw, compressed] = await compactAll(() => done++ > 1e9 || files() < 0.8e9);
  const { user, system } = process.cpuUsage(cpu);
  const seconds = (performance.now() - beginMs) / 1000;
  const perGigabyte = (user + system) / 1e6 / (raw / 1e9);
  const hourGigabytes = (10_000 * 3600 * 677 * (compressed / raw)) / 1e9;
  console.log(
    `alone: ratio ${(raw / compressed).toFixed(2)}, ${(raw / 1e6 / seconds).toFixed(0)} MB/s, CPU ${perGigabyte.toFixed(1)} s/GB`,
  );
  console.log(`an hour at 10000 spans/s of 677 bytes: ${hourGigabytes.toFixed(2)} GB of 24.4 GB`);
  for (const rate of [20, 0]) {
    const [without, during]: Figures[] = [0, 1].map(() => ({ latenciesMs: [], spansASecond: [], cpuShares: [] }));
    for (let turn = 0; turn < turns; turn += 1) {
      if (without) await loadPhase(wal, rate, without);
      let isOver = false;
      const compacting = compactAll(() => isOver);
      if (during) await loadPhase(wal, rate, during);
      isOver = true;
      await compacting;
    }
    const load = rate === 0 ? 'as fast as it goes' : 'at 10000 spans/s';
    if (without && during)
      console.log(`${load}, no compaction: ${words(without)}\n${load}, compacting: ${words(during)}`);
  }
} finally {
  await wal.close();
  await rm(folder, { recursive: true });
}
