import { expect, it } from 'vitest';
import { replayInto } from '../../src/app/replay.ts';
import { Sums, sumsOf } from '../../src/app/sums.ts';
import { systemClock } from '../../src/core/clock.ts';
import { Counters } from '../../src/core/metrics.ts';
import type { JoinShard } from '../../src/join/shard.ts';
import { inlineShard } from '../../src/join/shard-handle.ts';
import { SettleJournal } from '../../src/wal/settle-journal.ts';
import { spanIdOf, traceIdOf, World } from '../join/world.ts';
import { MemoryDisk } from '../wal/memory-disk.ts';

const folder = '/data/journal';
const PATH = `${folder}/0000000001.journal`;

/** Sums and a shard as a start finds them: the journal as it is, and these frames. */
async function restart(disk: MemoryDisk, world: World) {
  const journal = await SettleJournal.open({ folder, disk });
  const counters = new Counters();
  const sums = new Sums(counters);
  const shard: JoinShard = world.newShard((position) => journal.read(position));
  const wal = {
    segments: () => [],
    async replay(visit: (frame: (typeof world.frames)[number]) => unknown, { fromSegment = 0 } = {}) {
      const frames = world.frames.filter((frame) => frame.position.segment >= fromSegment);
      for (const frame of frames) await visit(frame);
      return { frames: frames.length, bytes: 0 };
    },
  };
  const log = { info: () => undefined };
  const { frames } = await replayInto({ shards: [inlineShard(shard)], journal, wal, sums, clock: systemClock, log });
  const told = () => {
    const { pendingBySignal, ignored } = shard.stats(world.nowMs);
    return sumsOf(sums.moment(0), pendingBySignal, [ignored]);
  };
  return { journal, counters, sums, shard, told, frames };
}

it('a batch of which a crash left any part in the journal leaves the sums without a difference', async () => {
  const world = new World({ segmentFrames: 2 });
  const span = (number: number, trace: number) => ({
    ...{ signal: 'traces' as const, span: { traceId: traceIdOf(trace), spanId: spanIdOf(number), kind: 2 } },
  });
  const log = (body: string) => ({ signal: 'logs' as const, log: { body } });
  const access = { signal: 'logs' as const, log: { attributes: { access: 1 } } };
  for (let trace = 1; trace <= 4; trace++) world.send([span(1, trace), span(1, trace), log('idle'), access]);
  const disk = new MemoryDisk();
  const first = await restart(disk, world);
  expect(first.told().map(({ of, difference }) => [of, difference])).toEqual(
    ['traces', 'logs', 'metrics', 'records'].map((of) => [of, 0]),
  );
  first.shard.flush();
  let isFirst = true;
  for (let batch = first.shard.take(world.nowMs, 3); batch; batch = first.shard.take(world.nowMs, 3)) {
    const counts = new Counters();
    first.sums.settled([batch.entries], counts);
    const [positions = []] = await first.journal.appendEncoded([batch.entries], first.sums.mark(world.nowMs, counts));
    first.sums.add(counts);
    first.shard.stored(batch.number, positions);
    if (!isFirst) continue;
    isFirst = false;
    const { ignored } = first.shard.stats(world.nowMs);
    first.sums.advance(2, [ignored]);
    first.shard.forgetIgnored(2);
  }
  const whole = first.told();
  expect(whole).toMatchObject([
    { accepted: 8, used: 4, duplicate: 4, difference: 0 },
    { accepted: 8, used: 4, context: 4, difference: 0 },
    { difference: 0 },
    { difference: 0 },
  ]);
  await first.journal.close();

  const bytes = disk.bytesOf(PATH);
  for (let end = 32; end <= bytes.length; end++) {
    disk.plant(PATH, bytes.subarray(0, end));
    const again = await restart(disk, world);
    expect(again.told().filter((sum) => sum.difference !== 0)).toEqual([]);
    expect(again.told().slice(0, 2)).toMatchObject([{ accepted: 8 }, { accepted: 8 }]);
    if (end === bytes.length) expect(again.told()).toEqual(whole);
    await again.journal.close();
  }
});
