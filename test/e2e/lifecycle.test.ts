import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { sleep } from '../bench/probe.ts';
import { mountSmallDisk } from '../setup/small-disk.ts';
import { checkRecords, untilSettled } from '../torture/check.ts';
import { Oracle } from '../torture/oracle.ts';
import { ApiClient, startVictim, type Victim } from '../torture/process.ts';
import { Random } from '../torture/random.ts';
import { Sender } from '../torture/sender.ts';
import { Workload } from '../torture/workload.ts';

const NAMESPACE = 'lifecycle';
const QUICK = {
  SPANTRAIL_NAMESPACE: NAMESPACE,
  SPANTRAIL_JOIN_GRACE_MS: '50ms',
  SPANTRAIL_JOIN_ROOT_WAIT_MS: '200ms',
  SPANTRAIL_JOIN_IDLE_MS: '300ms',
};
/** Nothing is settled for as long as a test runs. */
const STAY_OPEN = {
  ...QUICK,
  SPANTRAIL_JOIN_GRACE_MS: '1h',
  SPANTRAIL_JOIN_ROOT_WAIT_MS: '1h',
  SPANTRAIL_JOIN_IDLE_MS: '1h',
  SPANTRAIL_JOIN_MAX_AGE_MS: '1h',
};

let folder: string;
let data: string;
const victims: Victim[] = [];
const cleanUps: (() => unknown)[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'spantrail-lifecycle-'));
  data = join(folder, 'data');
});
afterEach(async () => {
  await Promise.all(victims.splice(0).map((victim) => victim.end('SIGKILL')));
  for (const cleanUp of cleanUps.splice(0)) await cleanUp();
  rmSync(folder, { recursive: true, force: true });
});

function start(environment: Readonly<Record<string, string>> = QUICK, ...args: string[]): Victim {
  const victim = startVictim(['--data-dir', data, ...args], environment);
  victims.push(victim);
  return victim;
}

function makeLoad() {
  const workload = new Workload(new Random(3), Date.now());
  const oracle = new Oracle(NAMESPACE);
  const load = { isOn: true, acknowledged: 0, oracle };
  const sender = new Sender({
    next: () => (load.isOn ? workload.next(Date.now()) : undefined),
    acknowledged: (shipment) => {
      load.acknowledged++;
      oracle.acknowledge(shipment, Date.now());
    },
  });
  return { ...load, sender, stop: () => (load.isOn = false), count: () => load.acknowledged };
}

/** A place where connections are taken and nothing is ever answered. */
async function silentServer(): Promise<string> {
  const server: Server = createServer(() => undefined);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  cleanUps.push(() => server.close());
  const address = server.address();
  return `http://127.0.0.1:${typeof address === 'object' && address ? address.port : 0}`;
}

describe('SIGTERM', () => {
  it.each([1, 2])('under load: what is in flight is answered, all of it is there (%i workers)', async (workers) => {
    const load = makeLoad();
    const environment = { ...QUICK, SPANTRAIL_WORKERS: String(workers) };
    const first = start(environment);
    await load.sender.start(await first.ready);
    await expect.poll(load.count, { timeout: 60_000 }).toBeGreaterThan(40);
    expect(await first.end('SIGTERM')).toBe(0);
    expect(first.log()).toMatch(/"msg":"stopped"/);
    await load.sender.stop();

    const second = start(environment);
    const ports = await second.ready;
    await load.sender.start(ports);
    load.stop();
    await load.sender.drain();
    const api = new ApiClient(ports);
    await untilSettled(api);
    expect(await checkRecords({ api, oracle: load.oracle, namespace: NAMESPACE })).toBeGreaterThan(50);
    await load.sender.stop();
    expect(await second.end('SIGTERM')).toBe(0);
  });

  it.each([
    { store: 'refuses connections', url: async () => 'http://127.0.0.1:1' },
    { store: 'never answers', url: silentServer },
  ])('with a store that $store: clean, and the next start stores it', async ({ url }) => {
    const load = makeLoad();
    const first = start(QUICK, '--elasticsearch-url', await url());
    const ports = await first.ready;
    await load.sender.start(ports);
    await expect.poll(load.count, { timeout: 60_000 }).toBeGreaterThan(40);
    load.stop();
    await load.sender.drain();
    await load.sender.stop();
    expect(await first.end('SIGTERM')).toBe(0);

    const second = start(QUICK, '--store', 'duckdb');
    const api = new ApiClient(await second.ready);
    await untilSettled(api);
    expect(await checkRecords({ api, oracle: load.oracle, namespace: NAMESPACE })).toBeGreaterThan(50);
    expect(await second.end('SIGTERM')).toBe(0);
  });

  it('during a replay, and before it is ready: clean, and nothing is lost', async () => {
    const load = makeLoad();
    const first = start(STAY_OPEN);
    await load.sender.start(await first.ready);
    await expect.poll(load.count, { timeout: 60_000 }).toBeGreaterThan(300);
    load.stop();
    await load.sender.drain();
    await load.sender.stop();
    await first.end('SIGKILL');

    const second = start(STAY_OPEN);
    await second.ready;
    expect(await second.end('SIGTERM')).toBe(0);

    rmSync(join(data, 'lock'), { force: true });
    const third = start(STAY_OPEN);
    // The lock is the first thing that it takes.
    await expect.poll(() => readdirSync(data), { timeout: 60_000, interval: 2 }).toContain('lock');
    expect(await third.end('SIGTERM')).toBe(0);
    expect(readdirSync(data)).not.toContain('lock');

    const last = start();
    const api = new ApiClient(await last.ready);
    await untilSettled(api);
    expect(await checkRecords({ api, oracle: load.oracle, namespace: NAMESPACE })).toBeGreaterThan(500);
    expect(await last.end('SIGTERM')).toBe(0);
  });

  it('twice: ended at once, with exit code 1', async () => {
    const load = makeLoad();
    const victim = start(QUICK, '--elasticsearch-url', await silentServer());
    const ports = await victim.ready;
    await load.sender.start(ports);
    const api = new ApiClient(ports);
    await expect.poll(async () => (await api.pipeline()).pending.evidence, { timeout: 60_000 }).toBeGreaterThan(0);
    await sleep(1000);
    void victim.end('SIGTERM');
    await expect.poll(() => victim.log(), { timeout: 10_000 }).toContain('stopping');
    expect(await victim.end('SIGTERM')).toBe(1);
    await load.sender.stop();
  });
});

/** What a start says at last, in one line, and how it ends; it must not start. What comes before are lines of the log. */
async function refusal(victim: Victim): Promise<string> {
  const refused = await victim.ready.then(
    () => 'it started',
    (error: Error) => error.message,
  );
  expect(refused).toMatch(/^ended with 1 before it was ready:\n(\{.*\}\n)*spantrail: [^\n]+\n$/);
  return refused.split('\n').at(-2) ?? '';
}

describe('a data folder', () => {
  it('that is not there is made, with the folders above it', async () => {
    data = join(folder, 'some', 'where', 'else');
    const victim = start();
    await victim.ready;
    expect(readdirSync(data)).toContain('wal');
    expect(await victim.end('SIGTERM')).toBe(0);
  });

  it('that another process uses is refused, whichever namespace of processes that is in', async () => {
    await start().ready;
    expect(await refusal(start())).toMatch(/in use by process \d+.*(stop it|choose another)/);
    if (process.getuid?.() !== 0) return;
    const elsewhere = startVictim(['--data-dir', data], QUICK, ['unshare', '--pid', '--fork', '--kill-child']);
    victims.push(elsewhere);
    expect(await refusal(elsewhere)).toMatch(/in use by .*(stop it|choose another)/);
  });

  it('that is a file is refused', async () => {
    writeFileSync(data, 'something');
    expect(await refusal(start())).toMatch(/data folder .* cannot be used: .*not a (folder|directory).*give a folder/i);
    expect(readFileSync(data, 'utf8')).toBe('something');
  });

  it('of somebody else is refused and left as it is', async () => {
    mkdirSync(data);
    writeFileSync(join(data, 'accounts.csv'), 'theirs');
    expect(await refusal(start())).toMatch(/is no data folder: it holds accounts\.csv; give an empty folder/);
    expect(readdirSync(data)).toEqual(['accounts.csv']);
  });

  it('on a read-only file system is refused', async () => {
    const disk = await mountSmallDisk(16);
    cleanUps.push(() => disk.remove());
    disk.makeReadOnly();
    const victim = startVictim(['--data-dir', join(disk.inside, 'data')], QUICK, disk.enter);
    victims.push(victim);
    expect(await refusal(victim)).toMatch(
      /data folder .* cannot be used: EROFS.*mount it for writes or give another folder/,
    );
  });

  it('of another owner is refused', async () => {
    mkdirSync(data, { mode: 0o700 });
    const isRoot = process.getuid?.() === 0;
    // Root may do anything, so it starts it as somebody else; others make it a folder that they may not use.
    if (!isRoot) chmodSync(data, 0o000);
    chmodSync(folder, 0o755);
    const enter = isRoot ? ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups'] : [];
    const victim = startVictim(['--data-dir', data], QUICK, enter);
    victims.push(victim);
    expect(await refusal(victim)).toMatch(/data folder .* cannot be used: EACCES.*give a/);
    if (!isRoot) chmodSync(data, 0o700);
  });
});

/** Puts a version that no program knows yet into the header of the newest segment of a folder. */
function makeNewer(kind: 'wal' | 'journal'): string {
  const name = readdirSync(join(data, kind)).sort().at(-1) ?? '';
  const path = join(data, kind, name);
  const bytes = readFileSync(path);
  bytes.writeUInt32LE(1000, 8);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, 28)), 28);
  writeFileSync(path, bytes);
  return path;
}

describe('a data folder with records, later changed from outside or by a newer Spantrail', () => {
  beforeEach(async () => {
    const load = makeLoad();
    const victim = start();
    const ports = await victim.ready;
    await load.sender.start(ports);
    await expect.poll(load.count, { timeout: 60_000 }).toBeGreaterThan(20);
    load.stop();
    await load.sender.drain();
    await untilSettled(new ApiClient(ports));
    await load.sender.stop();
    expect(await victim.end('SIGTERM')).toBe(0);
  });

  it.each(['wal', 'journal'] as const)('is refused and left as it is: a segment of the %s', async (kind) => {
    const path = makeNewer(kind);
    const before = readFileSync(path);
    expect(await refusal(start())).toMatch(/segment \d+\.\w+ has format version 1000, .* up to \d+.*newer Spantrail/);
    expect(readFileSync(path).equals(before)).toBe(true);
  });

  it('is told when it has lost its records', async () => {
    for (const name of readdirSync(data)) if (name.startsWith('records.duckdb')) rmSync(join(data, name));
    const victim = start();
    await victim.ready;
    await expect.poll(() => victim.log(), { timeout: 20_000 }).toMatch(/"level":50.*records\.duckdb is new/);
  });

  it('is refused: the folder as a whole', async () => {
    writeFileSync(join(data, 'format'), 'Spantrail data folder, format 1000\n');
    expect(await refusal(start())).toMatch(/has format 1000, this program knows up to \d+.*newer Spantrail/);
  });
});
