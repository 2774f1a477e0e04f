import type { ClientHttp2Session } from 'node:http2';
import { EXPORT_PATHS, exportOnce, openSession } from '../bench/load.ts';
import { sleep } from '../bench/probe.ts';
import { GRPC_PREFIX_BYTES } from '../bench/workload.ts';
import type { Shipment } from './workload.ts';

const SESSIONS = 2;
/** Requests in flight at once. */
const SLOTS = 8;
/** Before the next try after a refusal or a broken connection. */
const PAUSE_MS = 20;

export interface Ports {
  readonly grpc: number;
  readonly http: number;
  readonly api: number;
}

export interface SenderOptions {
  /** The next new request; undefined when there is none for now. */
  readonly next: () => Shipment | undefined;
  readonly acknowledged: (shipment: Shipment) => void;
}

/**
 * Sends as a Collector with a queue does: what was not acknowledged, whatever the reason, is sent again until it is, to the process
 * that runs then. What was acknowledged is never sent again by it.
 */
export class Sender {
  readonly #options: SenderOptions;
  /** Sent or taken and not acknowledged: an answer may have been lost, so it may be stored already. */
  readonly #owed: Shipment[] = [];
  #running: { readonly slots: Promise<unknown>; stop(): void } | undefined;
  #inFlight = 0;
  #fault: unknown;
  readonly counts = { sent: 0, refused: 0, broken: 0 };

  constructor(options: SenderOptions) {
    this.#options = options;
  }

  add(shipments: readonly Shipment[]): void {
    this.#owed.push(...shipments);
  }

  /** Starts to send to this process, as fast as it acknowledges. */
  async start(ports: Ports): Promise<void> {
    const sessions = await Promise.all(Array.from({ length: SESSIONS }, () => openSession(ports.grpc)));
    let isStopping = false;
    const slots = Promise.all(
      Array.from({ length: SLOTS }, async (_, slot) => {
        const session = sessions[slot % SESSIONS];
        // A session that is gone tells that the process is.
        const isOver = () => isStopping || this.#fault !== undefined || session === undefined || session.destroyed;
        while (session && !isOver()) await this.#sendNext(session, ports);
      }),
    );
    this.#running = {
      slots: slots.finally(() => {
        for (const session of sessions) session.destroy();
      }),
      stop: () => {
        isStopping = true;
      },
    };
  }

  /** Resolves when all that was sent is acknowledged and there is nothing new for now. */
  async drain(): Promise<void> {
    // Twice empty: a slot may be about to take the next.
    for (let empty = 0; empty < 2; ) {
      if (this.#fault !== undefined) throw this.#fault;
      empty = this.#owed.length === 0 && this.#inFlight === 0 ? empty + 1 : 0;
      await sleep(2 * PAUSE_MS);
    }
  }

  /** Resolves when the requests in flight were answered or broken off. Rejects when one got an answer that none must get. */
  async stop(): Promise<void> {
    this.#running?.stop();
    await this.#running?.slots;
    this.#running = undefined;
    if (this.#fault !== undefined) throw this.#fault;
  }

  async #sendNext(session: ClientHttp2Session, ports: Ports): Promise<void> {
    const shipment = this.#owed.shift() ?? this.#options.next();
    if (shipment === undefined) return sleep(PAUSE_MS);
    this.counts.sent++;
    this.#inFlight++;
    const answer = await send(shipment, session, ports).catch((thrown: unknown) => {
      this.#fault = thrown;
      return 'broken' as const;
    });
    this.#inFlight--;
    if (answer === 'acknowledged') return this.#options.acknowledged(shipment);
    this.counts[answer]++;
    this.#owed.push(shipment);
    await sleep(PAUSE_MS);
  }
}

type Answer = 'acknowledged' | 'refused' | 'broken';

/** gRPC's OK and UNAVAILABLE. */
const OK = '0';
const UNAVAILABLE = '14';

async function send(shipment: Shipment, session: ClientHttp2Session, ports: Ports): Promise<Answer> {
  return shipment.transport === 'grpc' ? sendGrpc(shipment, session) : sendHttp(shipment, ports.http);
}

/** Throws for an answer that a sender would not send again after: nothing here is wrong with the requests. */
async function sendGrpc({ payload, signal }: Shipment, session: ClientHttp2Session): Promise<Answer> {
  const prefix = Buffer.alloc(GRPC_PREFIX_BYTES);
  prefix.writeUInt32BE(payload.length, 1);
  const framed = Buffer.concat([prefix, payload]);
  const status = session.destroyed || session.closed ? 'gone' : await exportOnce(session, framed, EXPORT_PATHS[signal]);
  if (status === OK) return 'acknowledged';
  if (status === UNAVAILABLE) return 'refused';
  if (/^\d+$/.test(status)) throw new Error(`gRPC status ${status} for a sound request`);
  return 'broken';
}

async function sendHttp({ payload, signal }: Shipment, port: number): Promise<Answer> {
  const url = `http://127.0.0.1:${port}/v1/${signal}`;
  const headers = { 'content-type': 'application/x-protobuf' };
  const body = new Uint8Array(payload);
  const status = await fetch(url, { method: 'POST', headers, body }).then(
    async (response) => {
      await response.arrayBuffer();
      return response.status;
    },
    () => undefined,
  );
  if (status === 200) return 'acknowledged';
  if (status === 503) return 'refused';
  if (status !== undefined) throw new Error(`HTTP status ${status} for a sound request`);
  return 'broken';
}
