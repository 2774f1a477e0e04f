import './synchronous-zstd.ts';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import type { PumpStatus } from '../../src/app/pump-status.ts';
import { createSettling } from '../../src/app/settling.ts';
import { joinSettings } from '../../src/app/shards.ts';
import { openStages, type Stages } from '../../src/app/stages.ts';
import type { Clock, Scheduler } from '../../src/core/clock.ts';
import { describeError } from '../../src/core/errors.ts';
import { Counters } from '../../src/core/metrics.ts';
import { bytesOf } from '../../src/core/raw-bytes.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import type { Settle } from '../../src/core/settlement.ts';
import { scanLogs, scanTraces } from '../../src/otlp/scan.ts';
import type { StoredFrame } from '../../src/wal/frame.ts';
import { Quarantine } from '../../src/wal/quarantine.ts';
import type { FramePosition } from '../../src/wal/segment-format.ts';
import { SettleJournal } from '../../src/wal/settle-journal.ts';
import { Wal } from '../../src/wal/wal.ts';
import { MemoryDisk } from '../wal/memory-disk.ts';
import { copyOf, faultyDisk } from './faulty-disk.ts';
import { FaultyStore } from './faulty-store.ts';
import { type ExpectedTrace, joinAtOnce, nameOf, withoutExempt } from './oracle.ts';
import { type Profile, profileOf } from './profile.ts';
import { type Random, randomOf } from './random.ts';
import { VirtualTime } from './virtual-time.ts';
import { planClosing, planWorkload, type Request } from './workload.ts';

const FOLDER = '/data';
/** A second in the middle of a day. */
const START_MS = 1_790_000_000_000;

/** After the last fault, all must be stored within this time, and within so many events. */
const REST_MS_MAX = 3_600_000;
const EVENTS_MAX = 400_000;

/** Memory of the index beyond its setting: pieces of the frame that came last, and blocks that are given out whole. */
const INDEX_SLACK_BYTES = 64 * 1024;

/** Length of a storm of faults, and of a calm. */
const SPELL_MS = 7_000;

/** Evidence that leaves the horizon within this time after the last of its trace came may have missed the settle. */
const SETTLED_MS = 300_000;

/** A horizon that has passed everything: 2160. */
const AFTER_ALL_NS = 6_000_000_000_000_000_000n;

export class SimulationFailure extends Error {}

export interface SimulationResult {
  readonly events: number;
  readonly lives: number;
  readonly frames: number;
  readonly records: number;
  /** Traces that were compared with a batch join, and those that lost evidence to a short horizon. */
  readonly exact: number;
  readonly cut: number;
  readonly quarantined: number;
}

/** One process, from its start to its end. */
interface Life {
  readonly number: number;
  isAlive: boolean;
  stages: Stages | undefined;
  readonly counters: Counters;
  /** Requests being admitted, by the buffer that was handed over, and where they became durable. */
  readonly handedOver: Map<Buffer, FramePosition | undefined>;
  readonly died: Promise<'died'>;
  end(why: string): void;
}

interface Frame extends StoredFrame {
  isAcknowledged: boolean;
}

/** The whole pipeline under one seed: what is sent, what fails, and what must be true nevertheless. */
export class Simulation {
  readonly profile: Profile;
  readonly #random: Random;
  readonly #trace: ((line: string) => void) | undefined;
  readonly #time = new VirtualTime();
  readonly #disk = new MemoryDisk();
  readonly #store: FaultyStore;
  /** Evidence that is durable, or was until the horizon let it go, by place. */
  readonly #frames = new Map<string, Frame>();
  /** When the segment was let go, by number. */
  readonly #goneAtMs = new Map<number, number>();
  /** A segment went that never held evidence, such as one that could not be written: a start cannot tell it from one let go. */
  #hasEmptyGone = false;
  readonly #durableAt = new Map<string, { nowMs: number; skippedMs: number }>();
  #life: Life | undefined;
  #lives = 0;
  #sending = 0;
  #clockOffsetMs = 0;
  /** What the clock was set forward by, in all: the pipeline cannot tell it from time that passed. */
  #skippedMs = 0;
  #isFaulty = true;
  readonly #storms = new Map<string, boolean>();
  #failure: unknown;

  constructor(seed: number, trace?: (line: string) => void) {
    this.#random = randomOf(seed);
    this.#trace = trace;
    this.profile = profileOf(this.#random.fork('profile'));
    const { store, refusedPermille, brittlePermille } = this.profile;
    this.#store = new FaultyStore({
      time: this.#time,
      random: this.#random.fork('store'),
      rates: () => (this.#isStormy('store') ? store : { unavailable: 0, throws: 0, stalls: 0 }),
      refusedPermille,
      brittlePermille,
      note: (line) => this.#note(line),
    });
  }

  /** Rejects with SimulationFailure when something is not as it must be. */
  async run(): Promise<SimulationResult> {
    const { profile } = this;
    const onRejection = (reason: unknown) =>
      this.#fail(new SimulationFailure(`unhandled: ${describeError(reason)}`, { cause: reason }));
    process.on('unhandledRejection', onRejection);
    try {
      this.#note(JSON.stringify(profile, (key, value) => (key === 'receive' || key === 'access' ? undefined : value)));
      this.#start();
      this.#plan(planWorkload({ ...profile, random: this.#random.fork('workload'), startMs: START_MS }));
      this.#planFaults();
      await this.#pass(() => this.#time.nowMs >= profile.durationMs);
      this.#note('--- all heals');
      this.#isFaulty = false;
      await this.#comeToRest();
      const settling = createSettling(profile.settings);
      const expected = joinAtOnce(this.#frames, settling, joinSettings(profile.settings));
      const compared = this.#checkRecords(expected, settling.settle);
      const quarantined = await this.#checkQuarantine(expected);
      await this.#checkRestart();
      await this.#comeToRest();
      const [events, lives, frames] = [this.#time.events, this.#lives, this.#frames.size];
      return { events, lives, frames, records: this.#store.ids.length, ...compared, quarantined };
    } finally {
      this.#life?.end('the run is over');
      process.off('unhandledRejection', onRejection);
    }
  }

  #note(line: string): void {
    this.#trace?.(`${(this.#time.nowMs / 1000).toFixed(3).padStart(10)} ${line}`);
  }

  #fail(thrown: unknown): void {
    this.#failure ??= thrown;
    this.#note(`FAILURE ${describeError(thrown)}`);
  }

  #check(isTrue: boolean, message: () => string): void {
    if (!isTrue) throw new SimulationFailure(message());
  }

  async #pass(isSo: () => boolean): Promise<void> {
    const eventsMax = this.#time.events + EVENTS_MAX;
    await this.#time.runUntil(() => this.#failure !== undefined || this.#time.events > eventsMax || isSo());
    if (this.#failure !== undefined) throw this.#failure;
    this.#check(this.#time.events <= eventsMax, () => `more than ${EVENTS_MAX} events: something runs in circles`);
  }

  /** Faults come in storms, with calm in between. */
  #isStormy(kind: string): boolean {
    if (!this.#isFaulty) return false;
    const spell = `${kind} ${Math.floor(this.#time.nowMs / SPELL_MS)}`;
    const known = this.#storms.get(spell);
    if (known !== undefined) return known;
    const isStormy = this.#random.fork(spell).chance(0.5);
    this.#storms.set(spell, isStormy);
    return isStormy;
  }

  // ---- the process

  #start(): void {
    const number = ++this.#lives;
    const random = this.#random.fork(`life ${number}`);
    let settle: (died: 'died') => void = () => undefined;
    const died = new Promise<'died'>((resolve) => {
      settle = resolve;
    });
    const life: Life = {
      number,
      isAlive: true,
      stages: undefined,
      counters: new Counters(),
      handedOver: new Map(),
      died,
      end: (why) => {
        if (!life.isAlive) return;
        life.isAlive = false;
        this.#life = undefined;
        this.#note(`life ${number} ends: ${why}`);
        settle('died');
      },
    };
    this.#life = life;
    this.#note(`life ${number} starts`);
    this.#live(life, random).catch((thrown: unknown) => {
      if (!life.isAlive) return;
      if (thrown instanceof SimulationFailure) this.#fail(thrown);
      else if (!this.#isFaulty && this.#time.nowMs > this.profile.durationMs + 60_000) this.#fail(thrown);
      else this.#crash(life, `it cannot start: ${describeError(thrown)}`, random);
    });
  }

  async #live(life: Life, random: Random): Promise<void> {
    const { disk: diskRates } = this.profile;
    const sleep = (delayMs: number) =>
      new Promise<void>((resolve) => void this.#time.after(delayMs, () => life.isAlive && resolve()));
    const asker = {
      get isAlive() {
        return life.isAlive;
      },
      sleep,
      kill: (why: string) => this.#crash(life, why, random),
    };
    const disk = faultyDisk({
      disk: this.#disk,
      asker,
      random: random.fork('disk'),
      rates: () => (this.#isStormy('disk') ? diskRates : { fails: 0, failsButPersisted: 0, kills: 0, stalls: 0 }),
      removing: (path) => this.#noteGone(path),
      note: (line) => this.#note(line),
    });
    const clock: Clock = { nowMs: () => START_MS + Math.floor(this.#time.nowMs) + this.#clockOffsetMs };
    const startMs = this.#time.nowMs;
    const chance = random.fork('scheduler');
    const scheduler: Scheduler = {
      after: (delayMs, act) => this.#time.after(delayMs, () => life.isAlive && act()),
      elapsedMs: () => this.#time.nowMs - startMs,
      random: () => chance.next(),
    };
    const logged = (details: object, message: string) => {
      const error = 'error' in details ? describeError(details.error) : JSON.stringify(details);
      this.#note(`log: ${message}: ${error}`);
    };
    const log = { info: logged, warn: logged, error: logged };
    const store = this.#store.connect(asker);
    const { settings } = this.profile;
    const { counters } = life;
    // The same whichever way a record waits for the store.
    const takesTexts = random.fork('texts').chance(0.5);
    const parts = { settings, folder: FOLDER, disk, clock, scheduler, store, counters, log };
    const stages = await openStages({ ...parts, takesTexts });
    stages.wal.onDurable((frame) => {
      life.handedOver.set(frame.payload as Buffer, frame.position);
      this.#keep(frame);
    });
    life.stages = stages;
    await this.#checkRecovered();
    await stages.startJoining();
  }

  /** The process ends and the machine may lose power: what was not fsynced may be gone, or there in part. */
  #crash(life: Life, why: string, random: Random): void {
    if (!life.isAlive) return;
    const mode = random.pick(['nothing unsynced', 'half of it', 'all of it'] as const);
    life.end(`${why}; of what was not fsynced there is ${mode}`);
    this.#disk.crash(mode);
    this.#time.after(random.int(10, 3_000), () => this.#start());
  }

  /** As on SIGTERM, but for a deadline after which it is killed. */
  async #stop(life: Life, random: Random): Promise<void> {
    const { stages } = life;
    if (stages === undefined) return this.#crash(life, 'stopped while it started', random);
    this.#note(`life ${life.number} is asked to stop`);
    const stopped = (async () => {
      await stages.drain();
      await stages.close().catch((thrown: unknown) => this.#note(`while stopping: ${describeError(thrown)}`));
      return 'stopped' as const;
    })();
    const deadline = this.#time.sleep(10_000).then(() => 'late' as const);
    const outcome = await Promise.race([stopped, life.died, deadline]);
    if (outcome !== 'died') this.#crash(life, outcome === 'stopped' ? 'stopped' : 'killed at the deadline', random);
  }

  // ---- senders

  #plan(requests: readonly Request[]): void {
    for (const request of requests) {
      this.#sending++;
      this.#time.after(request.atMs - this.#time.nowMs, () => {
        this.#send(request)
          .catch((thrown: unknown) => this.#fail(thrown))
          .finally(() => {
            this.#sending--;
          });
      });
    }
  }

  async #send(request: Request): Promise<void> {
    const random = this.#random.fork(`sender ${request.number} ${request.atMs}`);
    for (;;) {
      const life = this.#life;
      if (life?.stages === undefined) {
        await this.#time.sleep(random.int(200, 2_000));
        continue;
      }
      const payload = Buffer.from(request.payload);
      life.handedOver.set(payload, undefined);
      const answer = await Promise.race([life.stages.admit(request.signal, payload, request.source), life.died]);
      if (answer === 'died') {
        if (this.#isFaulty && random.chance(0.2)) return this.#note(`request ${request.number} is given up`);
        await this.#time.sleep(random.int(200, 2_000));
        continue;
      }
      this.#note(`request ${request.number} (${request.signal}): ${JSON.stringify(answer)}`);
      if (answer.kind === 'unavailable') {
        await this.#time.sleep(answer.retryAfterMs * (0.5 + random.next()));
        continue;
      }
      this.#check(
        request.isGarbage === (answer.kind === 'invalid'),
        () => `request ${request.number} is ${answer.kind}`,
      );
      if (answer.kind === 'accepted' && answer.items > answer.rejected && request.signal !== 'metrics') {
        const position = life.handedOver.get(payload);
        this.#check(position !== undefined, () => `request ${request.number} was acknowledged and is not durable`);
        const frame = this.#frames.get(nameOf(position as FramePosition));
        if (frame !== undefined) frame.isAcknowledged = true;
      }
      return;
    }
  }

  #keep(frame: StoredFrame): void {
    const name = nameOf(frame.position);
    this.#frames.set(name, { ...frame, payload: Buffer.from(frame.payload), isAcknowledged: false });
    this.#durableAt.set(name, { nowMs: this.#time.nowMs, skippedMs: this.#skippedMs });
  }

  // ---- faults

  #planFaults(): void {
    const { killEveryMs, clockStepEveryMs, clockStepMaxMs, durationMs } = this.profile;
    const random = this.#random.fork('faults');
    this.#repeat(random, killEveryMs, () => {
      const life = this.#life;
      if (life === undefined) return;
      if (random.chance(0.3)) this.#stop(life, random).catch((thrown: unknown) => this.#fail(thrown));
      else this.#crash(life, 'killed', random);
    });
    this.#repeat(random, clockStepEveryMs, () => {
      const stepMs = random.int(-clockStepMaxMs, clockStepMaxMs);
      this.#note(`the clock is set by ${stepMs} ms`);
      this.#clockOffsetMs += stepMs;
      this.#skippedMs += Math.max(stepMs, 0);
    });
    // What is watched from outside, about once a second.
    const watch = () => {
      this.#fillDisk();
      this.#look();
      if (this.#time.nowMs < durationMs + REST_MS_MAX) this.#time.after(1_000, watch);
    };
    watch();
  }

  /** In a storm, others leave only a few bytes of the disk. */
  #fillDisk(): void {
    const isFull = this.profile.fillsDisk && this.#isStormy('full');
    if (isFull === Number.isFinite(this.#disk.capacityBytes)) return;
    const used = this.#disk.paths().reduce((bytes, path) => bytes + this.#disk.bytesOf(path).length, 0);
    const left = this.#random.fork(`full ${this.#time.nowMs}`).int(0, 6_000);
    this.#disk.capacityBytes = isFull ? used + left : Number.POSITIVE_INFINITY;
    this.#note(isFull ? `the disk has room for ${left} bytes` : 'the disk has room again');
  }

  #repeat(random: Random, everyMs: number, act: () => void): void {
    if (everyMs === 0) return;
    this.#time.after(random.next() * 2 * everyMs, () => {
      if (!this.#isFaulty) return;
      act();
      this.#repeat(random, everyMs, act);
    });
  }

  // ---- checks

  /** Memory within its setting (I5), and nothing unaccounted for (I2), at any time. */
  #look(): void {
    const stages = this.#life?.stages;
    if (stages === undefined) return;
    const status = stages.state.pump?.status();
    if (status === undefined) return;
    const { indexBytes, indexBytesMax, sums } = status;
    for (const sum of sums) {
      if (sum.difference !== 0) this.#fail(new SimulationFailure(`unaccounted for: ${JSON.stringify(sum)}`));
    }
    if (indexBytes > 2 * indexBytesMax + INDEX_SLACK_BYTES)
      this.#fail(new SimulationFailure(`the index has ${indexBytes} bytes, more than ${indexBytesMax}`));
  }

  #noteGone(path: string): void {
    const segment = Number(/\/wal\/0*(\d+)\.walz?$/.exec(path)?.[1] ?? 0);
    const hasFrames = [...this.#frames.values()].some(({ position }) => position.segment === segment);
    if (segment > 0 && !hasFrames) this.#hasEmptyGone = true;
    if (!hasFrames || this.#goneAtMs.has(segment)) return;
    this.#note(`segment ${segment} goes`);
    this.#goneAtMs.set(segment, this.#time.nowMs);
  }

  /** What was acknowledged is there after every start (I1); what else was durable counts as evidence from now on. */
  async #checkRecovered(): Promise<void> {
    const disk = copyOf(this.#disk, new MemoryDisk());
    const wal = await Wal.open({ folder: join(FOLDER, 'wal'), disk, clock: { nowMs: () => START_MS } });
    const readFrom = await this.#readFrom(disk);
    const found = new Set<string>();
    await wal.replay((frame) => {
      const name = nameOf(frame.position);
      found.add(name);
      const known = this.#frames.get(name);
      if (known === undefined) {
        const isRead = frame.position.segment >= readFrom;
        this.#note(`frame ${name} was never acknowledged and is there${isRead ? '' : ', where nobody looks'}`);
        if (isRead) this.#keep(frame);
      } else this.#check(known.payload.equals(frame.payload), () => `frame ${name} has another content than before`);
    });
    await wal.close();
    for (const [name, frame] of this.#frames) {
      const isGone = this.#goneAtMs.has(frame.position.segment);
      const words = frame.isAcknowledged ? 'acknowledged' : 'durable';
      this.#check(isGone || found.has(name), () => `frame ${name} was ${words} and is lost`);
    }
  }

  /** The segment from which on a start reads: all before is stored. */
  async #readFrom(disk: MemoryDisk): Promise<number> {
    const journal = await SettleJournal.open({ folder: join(FOLDER, 'journal'), disk });
    let from = 0;
    await journal.replay(() => undefined, {
      visitMark: ({ storedBefore }) => {
        from = storedBefore;
      },
    });
    await journal.close();
    return from;
  }

  /** All is sent, settled and stored, a while after the last fault. */
  async #comeToRest(): Promise<void> {
    const deadlineMs = this.#time.nowMs + REST_MS_MAX;
    let isAtRest = false;
    let isAsking = false;
    let seenIdle = 0;
    let closing = 0;
    const ask = async () => {
      const life = this.#life;
      const status = await life?.stages?.state.pump?.refreshStatus();
      const isIdle =
        status !== undefined &&
        this.#sending === 0 &&
        status.evidencePending === 0 &&
        status.storeFailure === undefined;
      seenIdle = isIdle ? seenIdle + 1 : 0;
      if (seenIdle === 2 && life !== undefined) {
        isAtRest = true;
        this.#checkSums(status?.sums ?? []);
      }
    };
    while (!isAtRest) {
      const atMs = this.#time.nowMs;
      this.#check(atMs < deadlineMs, () => `not at rest an hour after the last fault: ${this.#describeUnrest()}`);
      // A store that failed with all it was given shows only by something new that it is not the store that is at fault.
      if (seenIdle === 0 && closing++ < 10)
        this.#plan(planClosing(this.#random.fork(`closing ${closing}`), START_MS, atMs));
      isAsking = true;
      const asked = ask().then(
        () => {
          isAsking = false;
        },
        (thrown: unknown) => this.#fail(thrown),
      );
      void asked;
      await this.#pass(() => this.#time.nowMs >= atMs + 15_000);
      this.#check(!isAsking || this.#time.nowMs < deadlineMs, () => 'the pump does not answer');
    }
    this.#note('--- at rest');
  }

  #describeUnrest(): string {
    const status = this.#life?.stages?.state.pump?.status();
    return JSON.stringify({ sending: this.#sending, alive: this.#life !== undefined, ...status });
  }

  /** Accepted is, for each signal, what is in the frames that are or were durable (I2). */
  #checkSums(sums: PumpStatus['sums']): void {
    for (const signal of ['traces', 'logs'] as const) {
      let items = 0;
      for (const { payload, signal: own } of this.#frames.values()) {
        if (own !== signal) continue;
        const result = signal === 'traces' ? scanTraces(payload) : scanLogs(payload);
        if (result.ok) items += result.items - result.rejected;
      }
      const sum = sums.find((one) => one.of === signal);
      const accepted = sum === undefined || !('accepted' in sum) ? -1 : sum.accepted;
      this.#check(accepted === items, () => `accepted ${signal} are said to be ${accepted}, there were ${items}`);
    }
  }

  /** The store holds what a batch join of all evidence gives (I3), each record once (I4), and none of anything else. */
  #checkRecords(expected: readonly ExpectedTrace[], settle: Settle): { exact: number; cut: number } {
    const traceOf = new Map<string, ExpectedTrace>();
    const visible = new Map<string, AuditRecord>();
    const ofTrace = new Map<string, string[]>();
    for (const id of this.#store.ids) {
      const record = this.#store.states(id).at(-1);
      if (record === undefined) continue;
      const key = `${record.data_stream.namespace} ${record.trace?.id ?? ''}`;
      if (record.audit.superseded_by === undefined) visible.set(id, record);
      const list = ofTrace.get(record.trace?.id === undefined ? ' ' : key) ?? [];
      list.push(id);
      ofTrace.set(record.trace?.id === undefined ? ' ' : key, list);
    }
    let exact = 0;
    let cut = 0;
    for (const trace of expected) {
      const key = `${trace.namespace} ${trace.traceId}`;
      traceOf.set(key, trace);
      if (this.#isCut(trace)) {
        cut++;
        this.#checkAccesses(trace, settle);
        continue;
      }
      exact++;
      for (const [id, record] of trace.records) {
        if (this.#store.isWrong(id)) continue;
        const stored =
          visible.get(id) ?? [...visible.values()].find((one) => one.event.id !== id && this.#isLateFor(record, one));
        const words = `${trace.traceId === '' ? 'an event' : `trace ${trace.traceId}`} in ${trace.namespace}`;
        if (stored === undefined) {
          if (this.#isWrongWhenLate(trace, record, settle)) continue;
          this.#describe(trace);
          throw new SimulationFailure(`record ${id} of ${words} is not stored`);
        }
        const found = differences(withoutExempt(stored), withoutExempt(this.#asOrphan(record, stored)));
        if (found.length === 0) continue;
        this.#describe(trace);
        throw new SimulationFailure(`record ${id} of ${words} is stored otherwise than expected: ${found.join('; ')}`);
      }
      for (const id of ofTrace.get(key) ?? []) {
        const stored = visible.get(id);
        if (trace.records.has(id) || stored === undefined || this.#isLostContent(trace, stored)) continue;
        if ([...trace.records.values()].some((one) => this.#isLateFor(one, stored))) continue;
        this.#describe(trace);
        throw new SimulationFailure(`record ${id} is of no evidence in trace ${trace.traceId}`);
      }
    }
    for (const [key, ids] of ofTrace)
      this.#check(traceOf.has(key), () => `records ${ids.join(', ')} are of a trace that was never durable: ${key}`);
    return { exact, cut };
  }

  /**
   * Every access that was acknowledged has a record, though what is known of its trace is not of one piece any more.
   * Of a trace that is too large to settle whole it need not.
   */
  #checkAccesses(trace: ExpectedTrace, settle: Settle): void {
    const { namespace, traceId, spans, logs, records } = trace;
    if (spans.length + logs.length > this.profile.settings.join.spansMax) return;
    for (const span of spans) {
      const alone = settle({ namespace, traceId, spans: [span], logs: [] }).records.map(({ id }) => id);
      for (const id of alone.filter((one) => records.has(one) && !this.#store.isWrong(one))) {
        if (this.#store.states(id).length > 0) continue;
        this.#describe(trace);
        throw new SimulationFailure(`access ${id} of span ${span.spanId} in trace ${traceId} is not stored`);
      }
    }
  }

  /**
   * Of a huge trace not every content of a span is looked at: what a run wrote of one that another sender's content displaced is
   * not known to have been written when that run ended before its journal said so.
   */
  #isLostContent({ spans, logs }: ExpectedTrace, record: AuditRecord): boolean {
    const isHuge = spans.length + logs.length > this.profile.settings.join.spansMax;
    const contents = spans.filter(({ spanId }) => spanId === record.span?.id);
    return (
      isHuge &&
      this.#lives > 1 &&
      new Set(contents.map(({ raw }) => Buffer.from(bytesOf(raw)).toString('hex'))).size > 1
    );
  }

  /** What came from before all that is still known says so instead of its state, once the horizon has let something go. */
  #asOrphan(expected: AuditRecord, stored: AuditRecord): AuditRecord {
    if (!this.#isOrphan(stored)) return expected;
    const { state } = stored.audit.join;
    const { id } = stored.event;
    const { audit, event } = expected;
    return { ...expected, event: { ...event, id }, audit: { ...audit, join: { ...audit.join, state } } };
  }

  #isOrphan({ audit }: AuditRecord): boolean {
    return audit.join.state === 'orphan' && audit.join.horizon !== undefined && this.#hasLetGo;
  }

  /** May evidence have left the horizon? */
  get #hasLetGo(): boolean {
    return this.#goneAtMs.size > 0 || this.#hasEmptyGone || this.profile.clockStepEveryMs > 0;
  }

  /** An event from before all that is still known does not take the id of a span that is not there. */
  #isLateFor(expected: AuditRecord, stored: AuditRecord): boolean {
    return this.#isOrphan(stored) && isSameAccess(stored, expected);
  }

  /** An event that came alone from before all that is still known has an id of its own, which the store may always fail with. */
  #isWrongWhenLate({ namespace, traceId, spans, logs }: ExpectedTrace, expected: AuditRecord, settle: Settle): boolean {
    if (!this.#hasLetGo) return false;
    const { records } = settle({ namespace, traceId, spans, logs, horizonNs: AFTER_ALL_NS });
    return records.some(({ id, record }) => this.#store.isWrong(id) && isSameAccess(record, expected));
  }

  /** For the log of a run that failed: what there is of a trace. */
  #describe({ namespace, traceId, frames, spans, logs, records }: ExpectedTrace): void {
    if (this.#trace === undefined) return;
    this.#note(`trace ${traceId} in ${namespace}, frames ${[...frames].join(' ')}`);
    for (const name of frames) this.#note(`frame ${name} durable at ${this.#durableAt.get(name)?.nowMs} ms`);
    for (const { spanId, parentSpanId, kind, name, note } of spans)
      this.#note(`span ${spanId} below ${parentSpanId || 'none'}: ${name}, kind ${kind}, ${note.sender} ${note.peer}`);
    for (const { spanId, eventName, note } of logs)
      this.#note(`log of ${spanId || 'no span'}: ${eventName || 'no event'}, ${note.sender} ${note.peer}`);
    for (const id of this.#store.ids) {
      for (const record of this.#store.states(id)) {
        if (record.trace?.id === traceId && record.data_stream.namespace === namespace)
          this.#note(`stored ${id}${records.has(id) ? '' : ' (not expected)'}: ${JSON.stringify(record)}`);
      }
    }
    for (const [id, record] of records) this.#note(`expected ${id}: ${JSON.stringify(record)}`);
  }

  /** Did evidence of the trace leave the horizon before all of it was settled? Then no set holds for all of its records. */
  #isCut({ frames, traceId }: ExpectedTrace): boolean {
    if (this.profile.settings.join.indexBytesMax < 1024 * 1024 && traceId !== '') return true;
    const times = [...frames].map((name) => this.#durableAt.get(name) ?? { nowMs: 0, skippedMs: 0 });
    const lastMs = Math.max(...times.map(({ nowMs }) => nowMs));
    const told = times.map(({ nowMs, skippedMs }) => nowMs + skippedMs);
    if (Math.max(...told) + SETTLED_MS - Math.min(...told) > this.profile.settings.wal.horizonAgeMs) return true;
    return [...frames].some((name) => {
      const goneAtMs = this.#goneAtMs.get(this.#frames.get(name)?.position.segment ?? 0);
      return goneAtMs !== undefined && goneAtMs < lastMs + SETTLED_MS;
    });
  }

  /** Set aside is what the store refused, all of it and nothing else. */
  async #checkQuarantine(expected: readonly ExpectedTrace[]): Promise<number> {
    const disk = copyOf(this.#disk, new MemoryDisk());
    const quarantine = await Quarantine.open(join(FOLDER, 'quarantine'), { disk });
    const { entries } = await quarantine.page({ limit: 10_000 });
    for (const { stage, id, reason } of entries) {
      const isMeant = stage === 'store' && this.#store.isWrong(id);
      this.#check(isMeant, () => `${id} was set aside in stage ${stage}: ${reason}`);
    }
    const aside = new Set(entries.map(({ id }) => id));
    for (const trace of expected) {
      if (this.#isCut(trace)) continue;
      for (const id of trace.records.keys()) {
        this.#check(
          !this.#store.isWrong(id) || aside.has(id),
          () => `record ${id} was refused and is not in quarantine`,
        );
      }
    }
    return aside.size;
  }

  /** After a start at rest nothing is written again. */
  async #checkRestart(): Promise<void> {
    const { documents } = this.#store;
    const frames = this.#frames.size;
    const life = this.#life;
    const random = this.#random.fork('restart');
    if (life === undefined) return;
    if (random.chance(0.5)) this.#crash(life, 'killed at rest', random);
    else this.#stop(life, random).catch((thrown: unknown) => this.#fail(thrown));
    const untilMs = this.#time.nowMs + 40_000;
    await this.#pass(() => this.#time.nowMs >= untilMs);
    const again = this.#store.documents - documents;
    const isExcused = this.#frames.size > frames;
    this.#check(again === 0 || isExcused, () => `a start at rest wrote ${again} records again`);
  }
}

function isSameAccess(one: AuditRecord, other: AuditRecord): boolean {
  return one.trace?.id === other.trace?.id && one.span?.id === other.span?.id && one.message === other.message;
}

/** Paths at which two records differ, with both values. */
function differences(left: unknown, right: unknown, path = ''): string[] {
  if (isDeepStrictEqual(left, right)) return [];
  const isPlain = (value: unknown) => typeof value === 'object' && value !== null;
  if (!isPlain(left) || !isPlain(right)) return [`${path} ${JSON.stringify(left)} for ${JSON.stringify(right)}`];
  const [one, other] = [left as Record<string, unknown>, right as Record<string, unknown>];
  const keys = [...new Set([...Object.keys(one), ...Object.keys(other)])];
  return keys.flatMap((key) => differences(one[key], other[key], path === '' ? key : `${path}.${key}`));
}
