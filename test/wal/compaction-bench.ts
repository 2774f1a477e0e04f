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
 * `node test/wal/compaction-bench.ts [seconds of a phase]`. Phases with and without compaction take turns in one run.
 */
const phaseMs = Number(process.argv[2] ?? 5) * 1000;
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

async function loadPhase(wal: Wal, requestsASecond: number): Promise<string> {
  const latencies: number[] = [];
  const startMs = performance.now();
  const cpu = process.cpuUsage();
  let requests = 0;
  const send = async () => {
    const beginMs = performance.now();
    await wal.append(frameNext());
    latencies.push(performance.now() - beginMs);
    requests += 1;
  };
  const senders = Array.from({ length: 16 }, async (_, sender) => {
    for (let turn = 0; performance.now() - startMs < phaseMs; turn += 1) {
      const dueMs = requestsASecond === 0 ? 0 : startMs + ((turn * 16 + sender) * 1000) / requestsASecond;
      await setTimeout(Math.max(0, dueMs - performance.now()));
      await send();
    }
  });
  await Promise.all(senders);
  const seconds = (performance.now() - startMs) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  latencies.sort((a, b) => a - b);
  const at = (share: number) => (latencies[Math.floor(latencies.length * share)] ?? 0).toFixed(1);
  const spans = Math.round((requests * SPANS_A_REQUEST) / seconds);
  return `${spans} spans/s, ack p50 ${at(0.5)} p99 ${at(0.99)} ms, CPU ${((user + system) / 1e4 / seconds).toFixed(0)} %`;
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
    for (const isCompacting of [false, true, false, true]) {
      let isOver = false;
      const compacting = isCompacting ? compactAll(() => isOver) : Promise.resolve([0, 0] as const);
      const words = await loadPhase(wal, rate);
      isOver = true;
      const [bytes] = await compacting;
      const speed = isCompacting ? `compacting ${((bytes / phaseMs) * 1e-3).toFixed(0)} MB/s` : 'no compaction';
      console.log(`${rate === 0 ? 'as fast as it goes' : 'at 10000 spans/s'}, ${speed}: ${words}`);
    }
  }
} finally {
  await wal.close();
  await rm(folder, { recursive: true });
}
