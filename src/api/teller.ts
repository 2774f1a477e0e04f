import { Readable } from 'node:stream';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Authenticator, Principal } from '../auth/principal.ts';
import type { Clock } from '../core/clock.ts';
import { AppError } from '../core/errors.ts';
import type { Counters } from '../core/metrics.ts';
import { type AskedParameters, cutAsked, type ReadEvent, targetOf } from './read-event.ts';
import type { Route } from './route.ts';

/** Who may ask, and where it is kept who asked. */
export interface ApiAccess {
  readonly authenticator: Pick<Authenticator, 'isOn' | 'identify'>;
  readonly counters: Counters;
  /** Resolves when the event is durable. Throws AppError('unavailable') that says why it cannot be. */
  record(read: ReadEvent): Promise<void>;
}

export interface TellerOptions {
  readonly access: ApiAccess | undefined;
  readonly clock: Clock;
  reportFailure(error: unknown): void;
}

/** Refusals of one principal that are recorded each minute. Whoever has an old token must not fill the log with it. */
const REFUSALS_MAX = 60;
const REFUSALS_MS = 60_000;

/** One request of somebody who is known. */
export interface Visit {
  readonly route: Route;
  readonly principal: Principal;
  readonly startMs: number;
  /** 401 of a principal whose token is over, or 403. */
  refusal?: string | undefined;
  reason?: string | undefined;
  rows?: number | undefined;
  isStarted?: boolean;
  isTold?: boolean;
}

/** Has it recorded what becomes of a request. */
export class Teller {
  readonly #options: TellerOptions;
  readonly #ending = new Set<Promise<void>>();
  readonly #refusals = new Map<string, { sinceMs: number; count: number }>();

  constructor(options: TellerOptions) {
    this.#options = options;
  }

  /** Before anything is done. Throws when it cannot be recorded: then nothing is done. */
  async start(request: FastifyRequest, visit: Visit): Promise<void> {
    visit.isStarted = true;
    try {
      await this.#options.access?.record(eventOf(request, visit, { phase: 'start', outcome: 'unknown' }));
    } catch (error) {
      visit.isTold = true;
      throw error;
    }
  }

  /** Before the first byte of the answer. Throws when it cannot be recorded, and there is something in it. */
  async answer(request: FastifyRequest, reply: FastifyReply, visit: Visit, payload: unknown): Promise<void> {
    visit.isTold = true;
    const { statusCode: status } = reply;
    const outcome = status < 400 ? 'success' : 'failure';
    if (visit.refusal !== undefined) return this.#refusal(request, visit, status);
    if (payload instanceof Readable && outcome === 'success') {
      try {
        if (!visit.isStarted) await this.start(request, visit);
      } catch (error) {
        payload.destroy();
        throw error;
      }
      payload.once('close', () => this.#end(request, visit, status, payload));
    } else if (visit.isStarted) {
      await this.#try(eventOf(request, visit, { phase: 'end', outcome, status }));
    } else {
      await this.#options.access?.record(eventOf(request, visit, { phase: 'whole', outcome, status }));
    }
  }

  async settled(): Promise<void> {
    // Streams tell of their end in a turn of their own.
    await new Promise((resolve) => setImmediate(resolve));
    await Promise.all(this.#ending);
  }

  #end(request: FastifyRequest, visit: Visit, status: number, payload: Readable): void {
    // Following ends when the follower leaves; all else has an end of its own.
    const isCut = visit.route.answers !== 'sse' && !payload.readableEnded;
    if (isCut) visit.reason ??= 'the answer broke off';
    const outcome = visit.reason === undefined ? 'success' : 'failure';
    const ending = this.#try(eventOf(request, visit, { phase: 'end', outcome, status })).finally(() =>
      this.#ending.delete(ending),
    );
    this.#ending.add(ending);
  }

  /** Nothing was given away, so that it stands whether or not it can be recorded. */
  async #refusal(request: FastifyRequest, visit: Visit, status: number): Promise<void> {
    const { name } = visit.principal;
    const nowMs = this.#options.clock.nowMs();
    const known = this.#refusals.get(name);
    const recent = known && nowMs - known.sinceMs < REFUSALS_MS ? known : { sinceMs: nowMs, count: 0 };
    recent.count += 1;
    this.#refusals.set(name, recent);
    if (recent.count > REFUSALS_MAX) {
      this.#options.access?.counters.add('reads_unrecorded', 1, { reason: 'flood' });
      return;
    }
    visit.reason = visit.refusal;
    await this.#try(eventOf(request, visit, { phase: 'whole', outcome: 'failure', status }));
  }

  /** What has happened already stands, and is counted when it cannot be recorded. */
  async #try(event: ReadEvent): Promise<void> {
    try {
      await this.#options.access?.record(event);
    } catch (error) {
      this.#options.access?.counters.add('reads_unrecorded', 1, { reason: 'unavailable' });
      if (!(error instanceof AppError)) this.#options.reportFailure(error);
    }
  }
}

function eventOf(
  request: FastifyRequest,
  visit: Visit,
  { status, ...told }: Pick<ReadEvent, 'phase' | 'outcome'> & { readonly status?: number },
): ReadEvent {
  const { route, principal, refusal, reason, rows, startMs } = visit;
  const [path = '', query = ''] = request.url.split(/\?(.*)/s);
  const name = route.record ?? { action: 'view', target: 'audit_records' };
  const parameters = (request.query ?? {}) as AskedParameters;
  return {
    ...told,
    principal,
    action: name.action,
    target: targetOf(name, (request.params ?? {}) as AskedParameters, parameters, told.phase),
    decision: refusal === undefined ? 'allow' : 'deny',
    reason: reason ?? givenReason(route, parameters),
    request: {
      method: request.method,
      route: route.path,
      path: cutAsked(path),
      query: cutAsked(query),
      status,
      ip: request.ip,
      userAgent: request.headers['user-agent'],
    },
    rows: told.phase === 'start' ? undefined : rows,
    startMs,
  };
}

/** Why something is changed, in the words of who does it. */
function givenReason(route: Route, parameters: AskedParameters): string | undefined {
  const { reason } = parameters;
  return route.method !== undefined && typeof reason === 'string' ? reason : undefined;
}
