import { expect, it } from 'vitest';
import { SessionLog } from '../../src/app/session-log.ts';
import { type KnownSession, SessionOwners } from '../../src/receive/session-owners.ts';
import { MemoryDisk } from '../wal/memory-disk.ts';

const NONE = 0;
const warnings: string[] = [];
let nowMs = 1000;

function session(number: number): KnownSession {
  return { namespace: 'n', id: `session-${number}`, owner: { id: `user-${number}` }, seenMs: 1000 + number };
}

async function open(disk: MemoryDisk) {
  const owners = new SessionOwners({ max: 100, keepMs: 1e6 });
  const log = {
    info: () => undefined,
    warn: (_: object, message: string) => void warnings.push(message),
    error: () => undefined,
  };
  const key = Buffer.alloc(32, 5);
  const opened = await SessionLog.open({ folder: '/data', disk, key, owners, clock: { nowMs: () => nowMs }, log });
  return { owners, opened };
}

it('a full disk costs the file, not what is known, and is tried again after a while', async () => {
  const disk = new MemoryDisk();
  const { owners, opened } = await open(disk);
  const learn = async (number: number) => {
    owners.restore(session(number));
    opened.append(session(number));
    await new Promise((resolve) => setImmediate(resolve));
  };
  await learn(1);
  disk.capacityBytes = NONE;
  await learn(2);
  const steps = disk.steps.length;
  for (let number = 3; number < 20; number++) await learn(number);
  expect(disk.steps).toHaveLength(steps);
  nowMs += 60_000;
  await learn(20);
  expect(disk.steps.length).toBeGreaterThan(steps);
  disk.capacityBytes = Number.POSITIVE_INFINITY;
  await opened.close();
  expect(warnings).toHaveLength(1);
  const again = await open(disk);
  expect([...again.owners.all()]).toEqual(Array.from({ length: 20 }, (_, index) => session(index + 1)));
  await again.opened.close();
});
