import { describe, expect, it } from 'vitest';
import { openAlertDesk, type RunningAlertDesk } from '../../src/app/alerts.ts';
import { settingsSchema } from '../../src/config/schema.ts';
import type { Alert } from '../../src/core/alert.ts';
import { AppError } from '../../src/core/errors.ts';
import { Counters } from '../../src/core/metrics.ts';
import type { Notice, NoticeChange, Outcome } from '../../src/notify/notice.ts';
import { compileQuiet } from '../../src/notify/quiet.ts';
import { compileRouting } from '../../src/notify/routing.ts';
import { createMemoryAlerts } from '../../src/store/memory-alerts.ts';
import type { AlertStore } from '../../src/store/port.ts';
import { makeAlert } from '../fixtures/alerts.ts';
import { VirtualTime } from '../simulation/virtual-time.ts';
import { type CrashMode, MemoryDisk } from '../wal/memory-disk.ts';

const DELIVERED: Outcome = { kind: 'delivered', answer: '200' };
const SILENT = { info: () => undefined, warn: () => undefined, error: () => undefined };
const DAY_MS = 86_400_000;

/** A desk whose time, disk, store and receivers are the test's. What it delivered stands in `delivered`. */
class World {
  readonly time = new VirtualTime();
  readonly disk = new MemoryDisk();
  readonly delivered: Notice[] = [];
  readonly dead: Notice[] = [];
  readonly attempts: { readonly id: string; readonly atMs: number }[] = [];
  counters = new Counters();
  store: AlertStore = createMemoryAlerts();
  /** What a receiver answers. */
  answer: (notice: Notice) => Outcome | Promise<Outcome> = () => DELIVERED;
  channels = ['oncall'];
  notReady: string | undefined;
  startMs = Date.parse('2026-11-23T10:00:00Z');

  open(settings: object = {}, quiet: Parameters<typeof compileQuiet>[0] = []): Promise<RunningAlertDesk> {
    const { time, disk, store, counters } = this;
    const on = new Set<NoticeChange>(['raised', 'acknowledged', 'closed']);
    const deliver = async (notice: Notice) => {
      this.attempts.push({ id: notice.id, atMs: time.nowMs });
      const outcome = await this.answer(notice);
      if (outcome.kind === 'delivered') this.delivered.push(notice);
      return outcome;
    };
    const channels = new Map(this.channels.map((name) => [name, { name, type: 'webhook' as const, on, deliver }]));
    return openAlertDesk({
      settings: settingsSchema.parse({ notify: settings }).notify,
      folder: '/data',
      ...{ disk, store, counters, version: '1', log: SILENT },
      clock: { nowMs: () => this.startMs + time.nowMs },
      scheduler: { after: (delayMs, act) => time.after(delayMs, act), elapsedMs: () => time.nowMs, random: () => 0.5 },
      notReady: () => this.notReady,
      notifiers: { channels, routing: compileRouting([], this.channels), quiet: compileQuiet(quiet) },
      onDead: (notice) => this.dead.push(notice),
    });
  }

  /** Lets time pass. */
  async pass(forMs: number): Promise<void> {
    let isOver = false;
    this.time.after(forMs, () => {
      isOver = true;
    });
    await this.time.runUntil(() => isOver);
  }

  /** Runs what waits for time. */
  async does<T>(work: Promise<T>): Promise<T> {
    let isDone = false;
    const done = () => {
      isDone = true;
    };
    work.then(done, done);
    await this.time.runUntil(() => isDone);
    return work;
  }

  async stored(id = makeAlert().id): Promise<Alert | undefined> {
    return (await this.store.read([id]))[0]?.alert;
  }
}

const ids = (count: number) => Array.from({ length: count }, (_, number) => `alert-${String(number).padStart(4, '0')}`);

describe('the alert desk', () => {
  it('tells once of an alert however often it is raised, and keeps what people did to it', async () => {
    const world = new World();
    const desk = await world.open();
    await desk.raise([makeAlert()]);
    await desk.raise([makeAlert(), makeAlert()]);
    await world.pass(10);
    expect(world.delivered).toHaveLength(1);
    const acknowledged = await world.does(desk.setState(makeAlert().id, 'acknowledged', 'on it', 'bob'));
    expect(acknowledged.history).toEqual([
      { at: '2026-11-23T10:00:00.010Z', by: 'bob', state: 'acknowledged', note: 'on it' },
    ]);
    const more = makeAlert({
      ...{ reason: 'alice failed to log in 7 times', count: 7, value: 7, lastAt: '2026-11-22T10:05:00.000000000Z' },
      ...{ raisedAt: '2026-11-22T11:00:00.000Z', records: ['new', ...makeAlert().records], suppressed: 2 },
    });
    await desk.raise([more]);
    // What comes late of an earlier state takes nothing back.
    await desk.raise([makeAlert()]);
    await world.pass(10);
    expect(await world.stored()).toEqual({
      ...more,
      raisedAt: makeAlert().raisedAt,
      state: 'acknowledged',
      history: acknowledged.history,
    });
    await world.does(desk.setState(makeAlert().id, 'closed', undefined, 'bob'));
    await world.does(desk.setState(makeAlert().id, 'open', undefined, 'eve'));
    await world.does(desk.setState(makeAlert().id, 'closed', undefined, 'eve'));
    await world.pass(10);
    const keys = world.delivered.map(({ key }) => key.replace(makeAlert().id, ''));
    expect(keys).toEqual(['.raised', '.acknowledged.1', '.closed.2', '.closed.4']);
    expect(world.counters.total('alerts')).toBe(1);
    await desk.close();
  });

  it('changes nothing by the same state without a note, and says when there is no such alert', async () => {
    const world = new World();
    const desk = await world.open();
    await desk.raise([makeAlert()]);
    const open = await world.does(desk.setState(makeAlert().id, 'open', undefined, 'bob'));
    expect(open.history).toEqual([]);
    const noted = await world.does(desk.setState(makeAlert().id, 'open', 'asked her', 'bob'));
    expect(noted.history).toHaveLength(1);
    await expect(world.does(desk.setState('nobody', 'closed', undefined, 'bob'))).rejects.toMatchObject({
      code: 'not_found',
    });
    await desk.close();
  });

  it('loses no change when several people and the rule change an alert at once', async () => {
    const world = new World();
    const desk = await world.open();
    const other = await world.open();
    await desk.raise([makeAlert()]);
    const people = ['ann', 'bob', 'cem', 'dan'];
    const changes = people.map((by, at) =>
      world.does((at % 2 === 0 ? desk : other).setState(makeAlert().id, 'open', `by ${by}`, by)),
    );
    await world.does(Promise.all([...changes, desk.raise([makeAlert({ count: 9 })])]));
    await world.pass(1000);
    const stored = await world.stored();
    expect(stored?.history.map(({ by }) => by).sort()).toEqual(people);
    expect(stored?.count).toBe(9);
    await desk.close();
    await other.close();
  });

  it('keeps alerts while the store is away, tells of them at once, and stores them after a restart', async () => {
    const world = new World();
    world.notReady = 'it has not answered yet';
    let desk = await world.open();
    await desk.raise(ids(450).map((id) => makeAlert({ id })));
    await world.pass(60_000);
    expect(world.delivered).toHaveLength(450);
    expect(await world.stored('alert-0000')).toBeUndefined();
    expect(world.counters.total('alerts_unstored')).toBe(450);
    await desk.close();
    world.disk.crash('nothing unsynced');
    world.notReady = undefined;
    desk = await world.open();
    const page = await world.does(desk.search({}, 1000));
    expect(page.alerts).toHaveLength(450);
    expect(world.delivered).toHaveLength(450);
    expect(world.counters.total('alerts_unstored')).toBe(0);
    await desk.close();
  });

  it('takes no more than there is room for while the store is away', async () => {
    const world = new World();
    world.notReady = 'away';
    const desk = await world.open({ noticesMax: 5 });
    await desk.raise(ids(10_000).map((id) => makeAlert({ id })));
    await expect(desk.raise([makeAlert()])).rejects.toMatchObject({ code: 'store_unavailable' });
    world.notReady = undefined;
    await world.pass(60_000);
    await desk.raise([makeAlert()]);
    await desk.close();
  });

  it('lets one alert that the store never takes not hold up the others', async () => {
    const world = new World();
    const { store } = world;
    world.store = {
      ...store,
      async write(writes) {
        if (writes.some(({ alert }) => alert.id === 'alert-0001')) throw new AppError('internal', 'mapping');
        return store.write(writes);
      },
    };
    const desk = await world.open();
    await desk.raise(ids(3).map((id) => makeAlert({ id })));
    await world.pass(1000);
    const stored = await Promise.all(ids(3).map((id) => world.stored(id)));
    expect(stored.map((alert) => alert?.id)).toEqual(['alert-0000', undefined, 'alert-0002']);
    expect(world.counters.total('alerts_refused')).toBe(1);
    await desk.close();
  });
});

describe('notices', () => {
  it('are tried again after random waits that double up to a limit, then are dead letters until a person says so', async () => {
    const world = new World();
    world.answer = () => ({ kind: 'failed', reason: '503 busy' });
    const desk = await world.open({ triesMax: 6, retryMaxMs: 4000 });
    await desk.raise([makeAlert()]);
    await world.pass(DAY_MS);
    const waits = world.attempts.map(({ atMs }, at) => atMs - (world.attempts[at - 1]?.atMs ?? 0));
    // Half of the limit each, since chance always says one half.
    expect(waits.map((waitMs) => Math.round(waitMs / 100) * 100)).toEqual([0, 500, 1000, 2000, 2000, 2000]);
    const [notice] = desk.notices();
    expect(notice).toMatchObject({ state: 'dead', tries: 6, reason: '503 busy', channel: 'oncall', change: 'raised' });
    expect(world.dead).toHaveLength(1);
    expect(world.counters.total('notices_dead')).toBe(1);
    world.answer = () => DELIVERED;
    expect(await desk.retryNotices([notice?.id ?? '', 'f'.repeat(16)])).toEqual([notice?.id]);
    await world.pass(10);
    expect(world.delivered).toHaveLength(1);
    expect(desk.notices()).toEqual([]);
    expect(world.counters.total('notices_dead')).toBe(0);
    await desk.close();
  });

  it('wait as long as the receiver asks for, and are given up at once when it says never', async () => {
    const world = new World();
    world.answer = () => ({ kind: 'failed', reason: '429', afterMs: 600_000 });
    const desk = await world.open();
    await desk.raise([makeAlert()]);
    await world.pass(599_000);
    expect(world.attempts).toHaveLength(1);
    world.answer = () => ({ kind: 'dead', reason: '410 gone' });
    await world.pass(2000);
    expect(world.attempts).toHaveLength(2);
    expect(desk.notices()).toMatchObject([{ state: 'dead', tries: 2, reason: '410 gone' }]);
    // Whoever is told of it may raise an alert about that, whose notice goes the same way.
    await desk.raise(ids(3).map((id) => makeAlert({ id })));
    await world.pass(10);
    expect([world.attempts.length, world.dead.length]).toEqual([5, 1]);
    expect(await desk.dropNotices(desk.notices().map(({ id }) => id))).toHaveLength(4);
    expect(desk.notices()).toEqual([]);
    await desk.close();
  });

  it('of one channel are not held up by another that hangs, and of one that hangs only a few are on their way', async () => {
    const world = new World();
    world.channels = ['hangs', 'works'];
    world.answer = ({ channel }) => (channel === 'works' ? DELIVERED : new Promise<Outcome>(() => undefined));
    const desk = await world.open();
    await desk.raise(ids(20).map((id) => makeAlert({ id })));
    await world.pass(1000);
    expect(world.delivered.map(({ channel }) => channel)).toEqual(new Array(20).fill('works'));
    expect(world.attempts).toHaveLength(24);
    await desk.close();
  });

  it('wait for the end of quiet times, but for those that may not', async () => {
    const world = new World();
    world.startMs = Date.parse('2026-11-23T21:30:00Z');
    const desk = await world.open({}, [{ times: ['Mon-Sun 19:00-07:00'], timezone: 'UTC', except: 'critical' }]);
    const critical = makeAlert({ id: 'critical', rule: { ...makeAlert().rule, severity: 'critical' } });
    await desk.raise([makeAlert(), critical]);
    await world.pass(9 * 3_600_000);
    expect(world.delivered.map(({ alert }) => alert.id)).toEqual(['critical']);
    await world.pass(3_600_000);
    expect(world.delivered).toHaveLength(2);
    expect(world.attempts[1]?.atMs).toBe(9.5 * 3_600_000);
    await desk.close();
  });

  it('are not made without end: the oldest dead letters make room, then new ones are not made, and both are counted', async () => {
    const world = new World();
    world.answer = ({ alert }) =>
      alert.id < 'alert-0002' ? { kind: 'dead', reason: 'no' } : { kind: 'failed', reason: 'x' };
    const desk = await world.open({ noticesMax: 4 });
    await desk.raise(ids(4).map((id) => makeAlert({ id })));
    await world.pass(10);
    await desk.raise(['alert-0004', 'alert-0005', 'alert-0006'].map((id) => makeAlert({ id })));
    await world.pass(10);
    expect(desk.notices().map(({ alert }) => alert)).toEqual(['alert-0002', 'alert-0003', 'alert-0004', 'alert-0005']);
    expect(world.counters.total('notices_lost', { channel: 'oncall' })).toBe(3);
    expect(await world.stored('alert-0006')).toBeDefined();
    await desk.close();
  });

  it('of a channel that is gone from the settings are dead letters', async () => {
    const world = new World();
    world.answer = () => ({ kind: 'failed', reason: 'x' });
    const desk = await world.open();
    await desk.raise([makeAlert()]);
    await world.pass(10);
    await desk.close();
    world.channels = ['mail'];
    const next = await world.open();
    expect(next.notices()).toMatchObject([{ state: 'dead', reason: 'there is no channel oncall any more' }]);
    await next.close();
  });
});

describe('a crash', () => {
  /** Each alert is raised until that succeeded, as who raises does; a crash comes with the fault. */
  async function run(step: number, mode: 'fails' | 'fails but persisted' | 'killed', crash: CrashMode) {
    const world = new World();
    world.channels = ['one', 'two'];
    let failures = 1;
    world.answer = () => (failures-- > 0 ? { kind: 'failed', reason: 'once' } : DELIVERED);
    if (step >= 0) world.disk.faults = [{ step, mode }];
    let desk = await world.open();
    const raise = async (alerts: Alert[]): Promise<void> => {
      for (let attempt = 0; ; attempt++) {
        try {
          await desk.raise(alerts);
          return;
        } catch (error) {
          expect(error).toMatchObject({ retryable: true });
          expect(attempt).toBeLessThan(3);
          if (mode !== 'killed') continue;
          await desk.close().catch(() => undefined);
          world.disk.crash(crash);
          desk = await world.open();
        }
      }
    };
    await raise([makeAlert({ id: 'a' }), makeAlert({ id: 'b' })]);
    await raise([makeAlert({ id: 'a', count: 8 }), makeAlert({ id: 'c' })]);
    await world.pass(5);
    await raise([makeAlert({ id: 'd' })]);
    await world.pass(10_000);
    await desk.close().catch(() => undefined);
    world.disk.crash(crash);
    desk = await world.open();
    await world.pass(10_000);
    const page = await world.does(desk.search({}, 10));
    expect(page.alerts.map(({ id, count }) => `${id}${count}`).sort()).toEqual(['a8', 'b5', 'c5', 'd5']);
    const told = new Set(world.delivered.map(({ channel, key }) => `${channel} ${key}`));
    expect([...told].sort()).toEqual(
      ['one', 'two'].flatMap((channel) => ['a', 'b', 'c', 'd'].map((id) => `${channel} ${id}.raised`)),
    );
    expect(desk.notices()).toEqual([]);
    await desk.close();
    return { steps: world.disk.steps.length, sent: world.delivered.length };
  }

  it('at any step of the disk loses no alert and no notice; without one each goes out once', async () => {
    const { steps, sent } = await run(-1, 'fails', 'nothing unsynced');
    expect(sent).toBe(8);
    expect(steps).toBeGreaterThan(15);
    for (let step = 0; step < steps; step++) {
      for (const mode of ['fails', 'fails but persisted', 'killed'] as const) {
        for (const crash of ['nothing unsynced', 'half of it', 'all of it'] as const) {
          await run(step, mode, crash).catch((error: unknown) => {
            throw new Error(`step ${step} ${mode}, ${crash}`, { cause: error });
          });
        }
      }
    }
  });

  it('leaves a file that another run reads, whatever is damaged in it', async () => {
    const world = new World();
    world.answer = () => ({ kind: 'failed', reason: 'x' });
    const desk = await world.open();
    await desk.raise(ids(3).map((id) => makeAlert({ id })));
    await world.pass(10);
    await desk.close();
    const whole = world.disk.bytesOf('/data/alerts');
    expect(whole.toString().split('\n')[0]).toBe('spantrail-alerts 1');
    for (let at = 0; at < whole.length; at += 97) {
      const damaged = Buffer.from(whole);
      damaged.writeUInt8((damaged[at] ?? 0) ^ 0x15, at);
      world.disk.plant('/data/alerts', damaged);
      const next = await world.open();
      expect(next.notices().length).toBeLessThanOrEqual(3);
      await next.raise([makeAlert()]);
      await next.close();
    }
  });

  it('and years of alerts do not make the file grow without end', async () => {
    const world = new World();
    const desk = await world.open();
    for (const id of ids(700)) {
      await desk.raise([makeAlert({ id })]);
      await world.pass(1);
    }
    expect(world.delivered).toHaveLength(700);
    expect(world.disk.bytesOf('/data/alerts').length).toBeLessThan(500_000);
    await desk.close();
    const next = await world.open();
    await next.raise(ids(700).map((id) => makeAlert({ id })));
    await world.pass(10);
    expect(world.delivered).toHaveLength(700);
    await next.close();
  });
});
