import { appendFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Sum } from '../../src/api/contract.ts';
import { sleep } from '../bench/probe.ts';
import { checkRecords, checkSums, checkSumsNow, untilSettled } from './check.ts';
import { Oracle } from './oracle.ts';
import { ApiClient, startVictim, type Victim } from './process.ts';
import { Random } from './random.ts';
import { type Ports, Sender } from './sender.ts';
import { SHIPMENT_KINDS, type ShipmentKind, Workload } from './workload.ts';

export type TortureStore = 'duckdb' | 'elasticsearch';

export interface TortureOptions {
  readonly store: TortureStore;
  readonly rounds: number;
  readonly seed: number;
  /** The one data folder of all rounds. */
  readonly folder: string;
  /** Of the run alone: nothing else is in it. */
  readonly namespace: string;
  readonly elasticsearchUrl?: string | undefined;
  readonly say: (line: string) => void;
}

export interface TortureResult {
  readonly store: TortureStore;
  readonly seed: number;
  readonly rounds: number;
  readonly seconds: number;
  readonly kills: { readonly underLoad: number; readonly whileStarting: number; readonly terminated: number };
  readonly roundsWithTwoWorkers: number;
  readonly requests: {
    readonly acknowledged: number;
    readonly sent: number;
    readonly refused: number;
    readonly broken: number;
  };
  readonly acknowledgedByKind: Readonly<Record<ShipmentKind, number>>;
  /** Spans and log records, repeated ones included. */
  readonly evidence: Oracle['evidence'];
  /** Accesses that the acknowledged evidence makes: each was found exactly once. */
  readonly accesses: number;
  readonly checks: number;
  readonly recordsCompared: number;
  readonly sums: readonly Sum[];
}

const CHECK_EVERY = 4;
/** Everything is compared, not only what changed since the last check. */
const CHECK_ALL_EVERY = 52;
const LOAD_MS_MAX = 900;
/** A kill comes at the latest after this, also when nothing gets through. */
const MOMENT_MS_MAX = 5000;
const REQUESTS_A_ROUND = 60;
const SHARE_TWO_WORKERS = 0.25;
/** Not always: asking takes a moment, and some kills are to come without it. */
const SHARE_SUMS_ASKED = 0.3;
const SHARE_UNDER_LOAD = 0.6;
const SHARE_TERMINATED = 0.12;
const SHARE_KILLED_EARLY = 0.15;
const START_MS = 1500;
const REPLAY_MS = 120;

/** Short waits and small files, so that much happens in a second; the rules stay the same. */
const ENVIRONMENT = {
  SPANTRAIL_JOIN_GRACE_MS: '50ms',
  SPANTRAIL_JOIN_ROOT_WAIT_MS: '200ms',
  SPANTRAIL_JOIN_IDLE_MS: '300ms',
  SPANTRAIL_JOIN_LATE_WAIT_MAX_MS: '1s',
  SPANTRAIL_WAL_SEGMENT_BYTES: '1MiB',
  SPANTRAIL_WAL_CACHE_BYTES_MAX: '1MiB',
  SPANTRAIL_WAL_HORIZON_AGE_MS: '5m',
} as const;

/** Rejects with what was found; the data folder then tells the rest. */
export async function torture(options: TortureOptions): Promise<TortureResult> {
  const run = new Run(options);
  try {
    return await run.run();
  } finally {
    await run.close();
  }
}

class Run {
  readonly #options: TortureOptions;
  readonly #random: Random;
  readonly #workload: Workload;
  readonly #oracle: Oracle;
  readonly #sender: Sender;
  readonly #startedMs = Date.now();
  readonly #kills = { underLoad: 0, whileStarting: 0, terminated: 0 };
  readonly #byKind = Object.fromEntries(SHIPMENT_KINDS.map((kind) => [kind, 0])) as Record<ShipmentKind, number>;
  #victim: Victim | undefined;
  #acknowledged = 0;
  #budget = 0;
  #twoWorkers = 0;
  #checks = 0;
  #compared = 0;
  #sums: readonly Sum[] = [];
  #touched = new Set<number>();

  constructor(options: TortureOptions) {
    this.#options = options;
    this.#random = new Random(options.seed);
    this.#workload = new Workload(new Random(options.seed + 1), Date.now());
    this.#oracle = new Oracle(options.namespace);
    this.#sender = new Sender({
      next: () => (this.#budget-- > 0 ? this.#workload.next(Date.now()) : undefined),
      acknowledged: (shipment) => {
        this.#acknowledged++;
        this.#byKind[shipment.what]++;
        this.#touched.add(shipment.round);
        this.#oracle.acknowledge(shipment, Date.now());
      },
    });
  }

  async run(): Promise<TortureResult> {
    for (let round = 1; round <= this.#options.rounds; round++) await this.#round(round);
    const ports = await this.#start(1);
    this.#sender.add(this.#workload.rest(Date.now()));
    await this.#sender.start(ports);
    await this.#check(ports, 'all');
    await this.#sender.stop();
    await this.#end('SIGTERM');
    return this.#result();
  }

  async close(): Promise<void> {
    await this.#victim?.end('SIGKILL');
    await this.#sender.stop().catch(() => undefined);
    await this.#keepLog();
  }

  /** What the processes said, for whoever looks into a failure. */
  async #keepLog(): Promise<void> {
    const log = this.#victim?.log() ?? '';
    this.#victim = undefined;
    await appendFile(join(this.#options.folder, 'processes.log'), log);
  }

  async #round(round: number): Promise<void> {
    this.#workload.enter(round);
    const workers = this.#random.chance(SHARE_TWO_WORKERS) ? 2 : 1;
    if (workers > 1) this.#twoWorkers++;
    if (round > 1 && this.#random.chance(SHARE_KILLED_EARLY)) await this.#killEarly(workers);
    const ports = await this.#start(workers);
    this.#budget = this.#random.below(REQUESTS_A_ROUND) + REQUESTS_A_ROUND / 2;
    await this.#sender.start(ports);
    // None yet while it replays.
    checkSumsNow(await new ApiClient(ports).pipeline());
    if (round % CHECK_EVERY === 0) {
      await this.#check(ports, round % CHECK_ALL_EVERY === 0 ? 'all' : 'touched');
      this.#say(round);
      this.#budget = REQUESTS_A_ROUND / 2;
    }
    await this.#untilMoment();
    if (this.#random.chance(SHARE_SUMS_ASKED)) checkSumsNow(await new ApiClient(ports).pipeline());
    await this.#end(this.#random.chance(SHARE_TERMINATED) ? 'SIGTERM' : 'SIGKILL');
    await this.#sender.stop();
  }

  /** Mostly in the middle of the load; else at any time, so that it also comes while the store is still being written. */
  async #untilMoment(): Promise<void> {
    const remaining = this.#random.below(this.#budget);
    const momentMs = performance.now() + this.#random.below(LOAD_MS_MAX);
    const isUnderLoad = this.#random.chance(SHARE_UNDER_LOAD);
    const startedMs = performance.now();
    const isTime = () => (isUnderLoad ? this.#budget <= remaining : performance.now() >= momentMs);
    while (!isTime() && performance.now() - startedMs < MOMENT_MS_MAX) await sleep(5);
  }

  /** A kill while it still starts, or while it replays what the kill before left. */
  async #killEarly(workers: number): Promise<void> {
    const victim = this.#spawn(workers);
    if (this.#random.chance(0.3)) await Promise.race([victim.ready, sleep(this.#random.below(START_MS))]);
    else {
      await victim.ready;
      await sleep(this.#random.below(REPLAY_MS));
    }
    await victim.end('SIGKILL');
    await this.#keepLog();
    this.#kills.whileStarting++;
  }

  #spawn(workers: number): Victim {
    const { store, folder, namespace, elasticsearchUrl } = this.#options;
    const to = elasticsearchUrl === undefined ? ['--store', store] : ['--elasticsearch-url', elasticsearchUrl];
    const environment = { ...ENVIRONMENT, SPANTRAIL_NAMESPACE: namespace, SPANTRAIL_WORKERS: String(workers) };
    this.#victim = startVictim(['--data-dir', join(folder, 'data'), ...to], environment);
    return this.#victim;
  }

  #start(workers: number): Promise<Ports> {
    return this.#spawn(workers).ready;
  }

  async #end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const how = await this.#victim?.end(signal);
    if (signal === 'SIGKILL') this.#kills.underLoad++;
    else this.#kills.terminated++;
    const wanted = signal === 'SIGTERM' ? 0 : signal;
    if (how !== wanted) throw new Error(`ended by ${signal} with ${how}:\n${this.#victim?.log().slice(-4000)}`);
    await this.#keepLog();
  }

  /** Everything is sent and acknowledged, then stored, then compared. */
  async #check(ports: Ports, extent: 'touched' | 'all'): Promise<void> {
    const { namespace, elasticsearchUrl } = this.#options;
    await this.#sender.drain();
    const api = new ApiClient(ports);
    const answer = await untilSettled(api);
    this.#sums = checkSums(answer, this.#oracle.evidence);
    const ranges = extent === 'all' ? undefined : this.#touchedRanges();
    this.#compared += await checkRecords({
      api,
      oracle: this.#oracle,
      namespace,
      elasticsearchUrl,
      ...(ranges && { ranges }),
    });
    this.#touched.clear();
    this.#oracle.forgetOld(Date.now());
    this.#checks++;
  }

  #touchedRanges(): (readonly [number, number])[] {
    const rounds = [...this.#touched];
    const first = this.#workload.slice(Math.min(...rounds));
    const last = this.#workload.slice(Math.max(...rounds));
    return [
      [last.before[0], first.before[1]],
      [first.after[0], last.after[1]],
    ];
  }

  #say(round: number): void {
    const { store, rounds, say } = this.#options;
    const seconds = Math.round((Date.now() - this.#startedMs) / 1000);
    const accesses = this.#oracle.records.size;
    say(`${store} round ${round}/${rounds}: ${accesses} accesses acknowledged, ${accesses} found once, ${seconds} s`);
  }

  #result(): TortureResult {
    const { store, seed, rounds } = this.#options;
    return {
      store,
      seed,
      rounds,
      seconds: Math.round((Date.now() - this.#startedMs) / 1000),
      kills: this.#kills,
      roundsWithTwoWorkers: this.#twoWorkers,
      requests: { acknowledged: this.#acknowledged, ...this.#sender.counts },
      acknowledgedByKind: this.#byKind,
      evidence: this.#oracle.evidence,
      accesses: this.#oracle.records.size,
      checks: this.#checks,
      recordsCompared: this.#compared,
      sums: this.#sums,
    };
  }
}
