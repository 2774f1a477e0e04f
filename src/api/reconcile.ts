import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import type { FastifyInstance } from 'fastify';
import { AppError, describeError } from '../core/errors.ts';
import type { AccessControl } from './access.ts';
import { reconcileQuery } from './contract.ts';
import type { ReconcileEvent } from './reconcile-contract.ts';
import { checkParameters } from './selection.ts';

export interface ReconcileOptions {
  readonly restore: boolean;
  /** Only what is of this namespace, in the journal and in the store. */
  readonly namespace?: string | undefined;
}

/** Compares the store with what is known to be stored. */
export interface ReconcileDesk {
  /** Waits for `emit` after each event. Throws AppError `unavailable` when it cannot begin now. */
  run(options: ReconcileOptions, emit: (event: ReconcileEvent) => Promise<void>): Promise<void>;
}

export function addReconcileRoute(
  server: FastifyInstance,
  { reconcile, reportFailure }: { readonly reconcile: ReconcileDesk; reportFailure(error: unknown): void },
  control: Pick<AccessControl, 'noteFailure'>,
): void {
  server.post('/api/v1/reconcile', async (request, reply) => {
    const options = checkParameters(reconcileQuery, request.query);
    const output = new PassThrough();
    output.on('error', () => undefined);
    const closed = new AbortController();
    output.once('close', () => closed.abort());
    const begun = Promise.withResolvers<void>();
    const emit = async (event: ReconcileEvent) => {
      begun.resolve();
      if (output.destroyed) throw new AppError('unavailable', 'whoever asked is gone');
      if (output.write(`${JSON.stringify(event)}\n`)) return;
      await once(output, 'drain', { signal: closed.signal }).catch(() => undefined);
    };
    const running = reconcile.run(options, emit);
    // What fails before the first event is answered with its status; after it, the answer says so at its end.
    running.then(
      () => {
        begun.resolve();
        output.end();
      },
      (error: unknown) => {
        begun.reject(error);
        if (!(error instanceof AppError)) reportFailure(error);
        const message =
          error instanceof AppError ? describeError(error) : 'internal error; the log of the server says more';
        control.noteFailure(request, message);
        output.end(`${JSON.stringify({ type: 'error', message } satisfies ReconcileEvent)}\n`);
      },
    );
    await begun.promise;
    return reply.type('application/x-ndjson').send(output);
  });
}
