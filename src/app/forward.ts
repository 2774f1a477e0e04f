import { join } from 'node:path';
import type { Settings } from '../config/schema.ts';
import type { Clock, Scheduler } from '../core/clock.ts';
import { describeError } from '../core/errors.ts';
import type { Counters } from '../core/metrics.ts';
import type { Disk } from '../wal/disk.ts';
import type { Frame } from '../wal/frame.ts';
import type { Wal } from '../wal/wal.ts';
import type { ForwardClient } from './forward-client.ts';
import { eachLog, type ForwardedEvent, mayBeForwarded, openEvent, requestOf, sealEvent } from './forward-envelope.ts';
import { ForwardSpool } from './forward-spool.ts';
import { Sleepers } from './sleepers.ts';
import type { StageLog } from './stages.ts';

/** Half of the 4 MiB that a Collector takes in one request by default. */
const REQUEST_BYTES_MAX = 2 * 1024 * 1024;

/** What is read of the waiting events at once. */
const BATCH_BYTES = 1024 * 1024;

/** Waits between tries: soon at first, since Collectors restart within seconds. */
const RETRY_FIRST_MS = 250;
const RETRY_MAX_MS = 15_000;

/** How long a stop waits until the Collector has what waits. The rest is on disk, for the next start. */
const DRAIN_MS = 5_000;

/** A wrong secret refuses event by event: it is told this often. */
const TELL_MS = 60_000;

export interface ForwardingOptions {
  readonly settings: Settings['forward'];
  /** The data folder. */
  readonly folder: string;
  readonly disk: Disk;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly counters: Counters;
  readonly log: StageLog;
  /** What is joined here. */
  readonly wal: Pick<Wal, 'append' | 'appendAgain'>;
  readonly writeFailed: (error: unknown) => void;
}

/** Stands before the write-ahead log and decides what of a request is joined here. */
export interface Forwarding {
  /**
   * Resolves when everything in the frame is durable, here or among what waits to be forwarded. `isDirect`: it came by the access
   * API or a webhook and not through the Collector.
   */
  append(frame: Frame, isDirect?: boolean): Promise<unknown>;
  /** Waits, not for long, until all is sent. What is left is there at the next start. */
  close(): Promise<void>;
}

const FOLDER = 'forward';

/**
 * With `forward.endpoint`, events that came directly and belong to a trace are no evidence of this instance: they wait in a log of
 * their own and go through the Collector to the instance that has the trace, perhaps this one. Coming back they are told by their
 * form and never forwarded again, whatever came of the routing meanwhile: so there is no loop, and only who joins an event makes a
 * record of it. Throws AppError('config') for certificates that cannot be used.
 */
export async function openForwarding(options: ForwardingOptions): Promise<Forwarding> {
  const { settings, folder, disk, wal, counters, log } = options;
  const { endpoint } = settings;
  const receive = receiverOf(options);
  const isLeft = endpoint === undefined && (await disk.list(folder)).includes(FOLDER);
  if (endpoint === undefined && !isLeft) {
    return {
      append: (frame, isDirect) => (isDirect ? wal.append(frame) : receive(frame)),
      close: async () => undefined,
    };
  }
  const client = endpoint === undefined ? undefined : await openClient(settings, endpoint);
  const spool = await ForwardSpool.open({
    ...options,
    folder: join(folder, FOLDER),
    bytesMax: settings.waitingBytesMax,
  });
  if (client === undefined && spool.waiting > 0) {
    const words = 'events that waited to be forwarded are joined here, since forward.endpoint is not set any more';
    log.warn({ events: spool.waiting }, words);
  }
  const sender = new ForwardSender(options, spool, client);
  counters.set('forward_waiting', spool.waiting);
  return {
    append: async (frame, isDirect) => {
      if (!isDirect) return receive(frame);
      if (client === undefined) return wal.append(frame);
      return sender.take(frame);
    },
    async close() {
      await sender.drain();
      await sender.stop();
      client?.close();
      await spool.close();
    },
  };
}

/** Its library is loaded only where something is forwarded. */
async function openClient(settings: ForwardingOptions['settings'], endpoint: string): Promise<ForwardClient> {
  const { openForwardClient } = await import('./forward-client.ts');
  return openForwardClient(settings, endpoint);
}

/** Puts what other instances forwarded in the place of its envelopes. */
function receiverOf({ settings, wal, counters, clock, log }: ForwardingOptions): (frame: Frame) => Promise<void> {
  const secrets = [settings.secret, settings.formerSecret].filter((secret) => secret !== undefined);
  let toldMs = Number.NEGATIVE_INFINITY;
  const refuse = () => {
    counters.add('forwarded', 1, { outcome: 'unknown' });
    if (clock.nowMs() - toldMs < TELL_MS) return;
    toldMs = clock.nowMs();
    const words =
      'a forwarded event is not signed with forward.secret, so it is kept as a log record and makes no record: all instances need the same secret';
    log.error({}, words);
  };
  return async (frame) => {
    if (frame.signal !== 'logs' || !mayBeForwarded(frame.payload)) {
      await wal.append(frame);
      return;
    }
    const rest: Buffer[] = [];
    const events = new Map<string, { readonly event: ForwardedEvent; readonly requests: Buffer[] }>();
    for (const { record, request } of eachLog(frame.payload)) {
      const opened = openEvent(record, secrets);
      if (opened.kind === 'refused') refuse();
      if (opened.kind !== 'event') {
        rest.push(request);
        continue;
      }
      // Those of one request have one note, and share a frame again.
      const key = JSON.stringify({ ...opened.note, receivedNs: opened.note.receivedNs.toString() });
      const alike = events.get(key);
      if (alike) alike.requests.push(opened.request);
      else events.set(key, { event: opened, requests: [opened.request] });
    }
    const appends: Promise<unknown>[] = [];
    // Requests that follow one another are one request: that is how protobuf merges messages.
    if (rest.length > 0) appends.push(wal.append({ ...frame, payload: Buffer.concat(rest), items: rest.length }));
    for (const { event, requests } of events.values()) {
      const { note } = event;
      const payload = Buffer.concat(requests);
      appends.push(wal.appendAgain({ signal: 'logs', note, payload, items: requests.length }));
    }
    await Promise.all(appends);
    const received = [...events.values()].reduce((sum, { requests }) => sum + requests.length, 0);
    if (received > 0) counters.add('forwarded', received, { outcome: 'received' });
  };
}

/** An event on its way. */
interface Waiting extends ForwardedEvent {
  readonly sealed: Buffer;
}

/** Sends what waits, the oldest first, one request at a time, for as long as it takes. */
class ForwardSender {
  readonly #options: ForwardingOptions;
  readonly #spool: ForwardSpool;
  readonly #client: ForwardClient | undefined;
  readonly #sleepers: Sleepers;
  readonly #running: Promise<void>;
  #failures = 0;
  #idle: (() => void)[] = [];

  constructor(options: ForwardingOptions, spool: ForwardSpool, client: ForwardClient | undefined) {
    this.#options = options;
    this.#spool = spool;
    this.#client = client;
    this.#sleepers = new Sleepers(options.scheduler);
    this.#running = this.#run();
  }

  async take(frame: Frame): Promise<void> {
    const [here, elsewhere]: [Buffer[], Buffer[]] = [[], []];
    for (const { request, traceId } of eachLog(frame.payload)) (traceId ? elsewhere : here).push(request);
    const { wal } = this.#options;
    await Promise.all([
      here.length > 0 && wal.append({ ...frame, payload: Buffer.concat(here), items: here.length }),
      elsewhere.length > 0 &&
        this.#spool.append({ ...frame, payload: Buffer.concat(elsewhere), items: elsewhere.length }),
    ]);
    this.#options.counters.set('forward_waiting', this.#spool.waiting);
    this.#sleepers.wakeAll();
  }

  async drain(): Promise<void> {
    const { scheduler, log } = this.#options;
    // Where the Collector is away already, nothing is to be waited for.
    if (this.#spool.waiting > 0 && this.#failures === 0)
      await new Promise<void>((resolve) => {
        const cancel = scheduler.after(DRAIN_MS, resolve);
        this.#idle.push(() => {
          cancel();
          resolve();
        });
      });
    if (this.#spool.waiting === 0) return;
    log.warn(
      { events: this.#spool.waiting },
      'events wait to be forwarded; they are in the data folder for the next start',
    );
  }

  async stop(): Promise<void> {
    this.#sleepers.stop();
    await this.#running;
  }

  async #run(): Promise<void> {
    while (!this.#sleepers.isStopped) {
      const { wakes } = this.#sleepers;
      try {
        const frames = this.#spool.oldest(BATCH_BYTES);
        if (frames.length === 0) {
          for (const done of this.#idle.splice(0)) done();
          await this.#sleepers.sleep(RETRY_MAX_MS, wakes);
          continue;
        }
        for (const request of inRequests(frames.flatMap((frame) => this.#sealAll(frame)))) await this.#deliver(request);
        if (this.#sleepers.isStopped) return;
        await this.#spool.sent(frames);
        this.#options.counters.set('forward_waiting', this.#spool.waiting);
      } catch (error) {
        await this.#failed(describeError(error));
      }
    }
  }

  #sealAll({ note, payload }: Frame): Waiting[] {
    const { secret = '' } = this.#options.settings;
    return [...eachLog(payload)].flatMap(({ request, traceId }) => {
      const event = { note, request };
      return traceId === undefined ? [] : [{ ...event, sealed: sealEvent(traceId, event, secret) }];
    });
  }

  /** Resolves when each of them is sent or joined here, or it is time to stop. */
  async #deliver(events: readonly Waiting[]): Promise<void> {
    const { counters } = this.#options;
    while (!this.#sleepers.isStopped) {
      if (this.#client === undefined) return this.#keep(events, 'there is no forward.endpoint');
      const answer = await this.#client.send(requestOf(events.map(({ sealed }) => sealed)));
      if (answer.kind === 'failed') {
        await this.#failed(answer.reason);
        continue;
      }
      this.#worked();
      if (answer.kind === 'sent') return counters.add('forwarded', events.length, { outcome: 'sent' });
      if (events.length === 1) return this.#keep(events, answer.reason);
      // Whichever of them it is.
      const half = Math.ceil(events.length / 2);
      await this.#deliver(events.slice(0, half));
      return this.#deliver(events.slice(half));
    }
  }

  /** What can go nowhere makes its record here, which says what is missing, rather than none. */
  async #keep(events: readonly Waiting[], reason: string): Promise<void> {
    const { wal, counters, log } = this.#options;
    await Promise.all(
      events.map(({ note, request }) => wal.appendAgain({ signal: 'logs', note, payload: request, items: 1 })),
    );
    counters.add('forwarded', events.length, { outcome: 'kept' });
    if (this.#client)
      log.warn({ events: events.length, reason }, 'the Collector takes no such event: it is joined here');
  }

  #worked(): void {
    if (this.#failures > 0) this.#options.log.info({}, 'events are forwarded again');
    this.#failures = 0;
    this.#options.counters.set('forward_failing', 0);
  }

  /** Full jitter, so that several instances do not come at the same moment. */
  async #failed(reason: string): Promise<void> {
    const { log, counters, scheduler, settings } = this.#options;
    if (this.#failures === 0) {
      const words = `events cannot be forwarded to ${settings.endpoint}; they wait in the data folder, and it is tried again`;
      log.warn({ reason, events: this.#spool.waiting }, words);
    }
    counters.set('forward_failing', 1);
    const most = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** this.#failures);
    this.#failures = Math.min(this.#failures + 1, 16);
    await this.#sleepers.sleepThrough(most * (0.5 + scheduler.random() / 2));
  }
}

/** In order, each of what one request may hold, or of one event. */
function* inRequests(events: readonly Waiting[]): Generator<readonly Waiting[]> {
  let [request, bytes]: [Waiting[], number] = [[], 0];
  for (const event of events) {
    if (request.length > 0 && bytes + event.sealed.length > REQUEST_BYTES_MAX) {
      yield request;
      [request, bytes] = [[], 0];
    }
    request.push(event);
    bytes += event.sealed.length;
  }
  if (request.length > 0) yield request;
}
