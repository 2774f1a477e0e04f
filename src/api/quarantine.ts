import type { FastifyInstance } from 'fastify';
import { AppError } from '../core/errors.ts';
import {
  type QuarantineActionAnswer,
  type QuarantineAnswer,
  type QuarantineItem,
  quarantineDropQuery,
  quarantineQuery,
  quarantineRetryQuery,
} from './contract.ts';
import { checkParameters } from './selection.ts';

export interface QuarantineFilter {
  readonly state: 'open' | 'resolved' | 'all';
  readonly stage?: string | undefined;
  readonly limit: number;
  readonly cursor?: string | undefined;
}

/** What was set aside, and what a person can do about it. */
export interface QuarantineDesk {
  list(filter: QuarantineFilter): Promise<QuarantineAnswer>;
  /** Undefined when there is no such item. */
  show(id: string): Promise<QuarantineItem | undefined>;
  /** Throws AppError `store_unavailable` when the store is away: then nothing has changed. */
  retry(ids: readonly string[]): Promise<QuarantineActionAnswer>;
  drop(ids: readonly string[], reason: string): Promise<QuarantineActionAnswer>;
}

export function addQuarantineRoutes(server: FastifyInstance, desk: QuarantineDesk): void {
  server.get('/api/v1/quarantine', (request): Promise<QuarantineAnswer> => {
    return desk.list(checkParameters(quarantineQuery, request.query));
  });

  server.get('/api/v1/quarantine/:id', async (request): Promise<QuarantineItem> => {
    const { id } = request.params as { id: string };
    const item = await desk.show(id.toLowerCase());
    if (!item) throw new AppError('not_found', `nothing in quarantine has the id ${id}`);
    return item;
  });

  server.post('/api/v1/quarantine/retry', (request): Promise<QuarantineActionAnswer> => {
    return desk.retry(checkParameters(quarantineRetryQuery, request.query).ids);
  });

  server.delete('/api/v1/quarantine', (request): Promise<QuarantineActionAnswer> => {
    const { ids, reason } = checkParameters(quarantineDropQuery, request.query);
    return desk.drop(ids, reason);
  });
}
