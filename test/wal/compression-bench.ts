import { randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { Wal } from '../../src/wal/wal.ts';
import { buildTemplate, freshen, GRPC_PREFIX_BYTES, SPANS_A_REQUEST, uniqueValues } from '../bench/workload.ts';
import { frameOf } from './helpers.ts';

/**
 * What compressing the log gives and costs, on the bench's requests with ids, times and some values of every span made random, and
 * on the beginnings of such requests: `node test/wal/compression-bench.ts [seconds]`. Phases of a second with a raw and with a
 * compressed log take turns for as long, so that what else the machine does meets both alike.
 */
const PHASE_MS = 1000;
const turns = Number(process.argv[2] ?? 20) / 2;
const folder = join(tmpdir(), `spantrail-compression-bench-${process.pid}`);
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

let sent = 0;

interface Figures {
  requests: number;
  cpuSeconds: number;
  readonly latenciesMs: number[];
}

/** `share`: of each request's bytes; `requestsASecond` 0: as fast as it goes. */
async function loadPhase(wal: Wal, share: number, requestsASecond: number, figures: Figures): Promise<void> {
  const startMs = performance.now();
  const cpu = process.cpuUsage();
  const senders = Array.from({ length: 16 }, async (_, sender) => {
    for (let turn = 0; performance.now() - startMs < PHASE_MS; turn += 1) {
      const dueMs = requestsASecond === 0 ? 0 : startMs + ((turn * 16 + sender) * 1000) / requestsASecond;
      await setTimeout(Math.max(0, dueMs - performance.now()));
      const beginMs = performance.now();
      const payload = payloads[sent++ % payloads.length] ?? Buffer.alloc(0);
      await wal.append({ ...frameOf(1), payload: payload.subarray(0, payload.length * share) });
      figures.latenciesMs.push(performance.now() - beginMs);
      figures.requests += 1;
    }
  });
  await Promise.all(senders);
  const { user, system } = process.cpuUsage(cpu);
  figures.cpuSeconds += (user + system) / 1e6;
}

function at(values: readonly number[], share: number): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length * share)] ?? 0;
}

function words({ latenciesMs, requests, cpuSeconds }: Figures, share: number, bytes: number): string {
  const spans = requests * SPANS_A_REQUEST * share;
  const latency = `append p50 ${at(latenciesMs, 0.5).toFixed(1)}, p99 ${at(latenciesMs, 0.99).toFixed(1)} ms`;
  const cost = `${((cpuSeconds * 1e6) / spans).toFixed(2)} µs of CPU and ${(bytes / spans).toFixed(0)} bytes a span`;
  return `${Math.round(spans / turns)} spans/s, ${cost}, ${latency}`;
}

const log = (name: string, isCompressed: boolean) =>
  Wal.open({ folder: join(folder, name), segmentBytes: 64 * 1024 * 1024, cacheBytesMax: 0, isCompressed });

try {
  for (const share of [1, 1 / 64]) {
    for (const rate of [20 / share, 0]) {
      const spansASecond = rate === 0 ? 'as fast as it goes' : 'at 10,000 spans/s';
      console.log(`${Math.round(SPANS_A_REQUEST * share)} spans a request, ${spansASecond}`);
      const forms = [false, true].map((isCompressed) => ({
        isCompressed,
        figures: { requests: 0, cpuSeconds: 0, latenciesMs: [] } as Figures,
        wal: log(`${share}-${rate}-${isCompressed}`, isCompressed),
      }));
      for (let turn = 0; turn < turns; turn += 1) {
        for (const { wal, figures } of forms) await loadPhase(await wal, share, rate, figures);
      }
      for (const { wal, figures, isCompressed } of forms) {
        const { bytes } = await wal;
        await (await wal).close();
        console.log(`  ${isCompressed ? 'compressed' : 'raw       '}: ${words(figures, share, bytes)}`);
      }
      await rm(folder, { recursive: true });
    }
  }
} finally {
  await rm(folder, { recursive: true, force: true });
}
