import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { sleep } from '../bench/probe.ts';
import { mountSmallDisk, type SmallDisk } from '../setup/small-disk.ts';
import { checkRecords, untilSettled } from '../torture/check.ts';
import { Oracle } from '../torture/oracle.ts';
import { ApiClient, startVictim, type Victim } from '../torture/process.ts';
import { Random } from '../torture/random.ts';
import { type Ports, Sender } from '../torture/sender.ts';
import { Workload } from '../torture/workload.ts';

const DISK_MIB = 160;
const NAMESPACE = 'full';
const ENVIRONMENT = {
  SPANTRAIL_NAMESPACE: NAMESPACE,
  SPANTRAIL_JOIN_GRACE_MS: '50ms',
  SPANTRAIL_JOIN_ROOT_WAIT_MS: '200ms',
  SPANTRAIL_JOIN_IDLE_MS: '300ms',
  SPANTRAIL_JOIN_LATE_WAIT_MAX_MS: '1s',
  SPANTRAIL_WAL_SEGMENT_BYTES: '1MiB',
  SPANTRAIL_WAL_FREE_BYTES_MIN: '16MiB',
  SPANTRAIL_WAL_RESERVE_BYTES: '16MiB',
};

/** Another program's file, which takes whatever is free, down to the last byte, as often as it is told. */
class Filler {
  readonly #path: string;

  constructor(disk: SmallDisk) {
    this.#path = join(disk.outside, 'another-programs-file');
  }

  fill(): void {
    const file = openSync(this.#path, 'a');
    try {
      for (const size of [1024 * 1024, 4096, 1]) this.#append(file, Buffer.alloc(size, 'x'));
    } finally {
      closeSync(file);
    }
  }

  #append(file: number, chunk: Buffer): void {
    try {
      while (writeSync(file, chunk) > 0);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
    }
  }

  free(): void {
    rmSync(this.#path, { force: true });
  }
}

let disk: SmallDisk;
let victim: Victim;
let sender: Sender;
let filler: Filler;
let acknowledged: number;
let isLoaded: boolean;
let oracle: Oracle;

beforeEach(async () => {
  disk = await mountSmallDisk(DISK_MIB);
  filler = new Filler(disk);
  // Segments go before their time when the disk is full, so what comes late may find nothing to join.
  const workload = new Workload(new Random(7), Date.now(), { hasStories: false });
  oracle = new Oracle(NAMESPACE);
  acknowledged = 0;
  isLoaded = true;
  sender = new Sender({
    next: () => (isLoaded ? workload.next(Date.now()) : undefined),
    acknowledged: (shipment) => {
      acknowledged++;
      oracle.acknowledge(shipment, Date.now());
    },
  });
});
afterEach(async () => {
  await victim.end('SIGKILL');
  await sender.stop().catch(() => undefined);
  disk.remove();
});

async function start(): Promise<Ports> {
  victim = startVictim(['--data-dir', join(disk.inside, 'data')], ENVIRONMENT, disk.enter);
  return victim.ready;
}

async function untilMore(count: () => number, words: string): Promise<void> {
  const before = count();
  await expect.poll(() => count() > before, { timeout: 60_000, message: words }).toBe(true);
}

/** Everything is sent and acknowledged, then stored, then compared one by one. */
async function expectEveryAccessOnce(api: ApiClient): Promise<void> {
  isLoaded = false;
  await sender.drain();
  await untilSettled(api);
  expect(await checkRecords({ api, oracle, namespace: NAMESPACE })).toBeGreaterThan(100);
}

describe('a file system filled to the last byte under load', () => {
  it('refuses, lives, loses nothing, and serves again by itself when there is room', async () => {
    const ports = await start();
    const api = new ApiClient(ports);
    await sender.start(ports);
    await sleep(1500);
    // Also what the process gives up for its own sake is taken by the other program.
    const refusedBefore = sender.counts.refused;
    for (let time = 0; time < 20; time++) {
      filler.fill();
      await sleep(200);
    }
    await untilMore(() => sender.counts.refused, 'requests refused while it is full');
    expect(sender.counts.refused).toBeGreaterThan(refusedBefore);
    expect(await api.pipeline()).toMatchObject({ refusing: true });
    expect((await fetch(`http://127.0.0.1:${ports.api}/healthz`)).status).toBe(200);

    filler.free();
    await untilMore(() => acknowledged, 'requests acknowledged after there is room');
    await expectEveryAccessOnce(api);
    expect(await api.pipeline()).toMatchObject({ refusing: false, store: { state: 'writing' } });
    await sender.stop();
    expect(await victim.end('SIGTERM')).toBe(0);
  });

  it('stops clean while it is full, and a start with room has everything', async () => {
    const ports = await start();
    await sender.start(ports);
    await sleep(1500);
    for (let time = 0; time < 5; time++) {
      filler.fill();
      await sleep(200);
    }
    await untilMore(() => sender.counts.refused, 'requests refused while it is full');
    filler.fill();
    expect(await victim.end('SIGTERM'), victim.log()).toBe(0);
    await sender.stop();

    filler.free();
    const again = await start();
    await sender.start(again);
    await expectEveryAccessOnce(new ApiClient(again));
    await sender.stop();
    expect(await victim.end('SIGTERM')).toBe(0);
  });

  it('killed while it is full, it says so when started again, and has everything when there is room', async () => {
    const ports = await start();
    await sender.start(ports);
    await sleep(1500);
    for (let time = 0; time < 5; time++) {
      filler.fill();
      await sleep(200);
    }
    await untilMore(() => sender.counts.refused, 'requests refused while it is full');
    await victim.end('SIGKILL');
    await sender.stop();
    filler.fill();
    await expect(start()).rejects.toThrow(
      /^ended with 1 before it was ready:\nspantrail: [^\n]*no space left[^\n]*\n$/,
    );

    filler.free();
    const again = await start();
    await sender.start(again);
    await expectEveryAccessOnce(new ApiClient(again));
    await sender.stop();
    expect(await victim.end('SIGTERM')).toBe(0);
  });
});
