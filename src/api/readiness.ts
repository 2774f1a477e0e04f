import type { FastifyInstance } from 'fastify';

/** Why evidence is refused: what is full, of the values of the label `reason` of the metric `refusing`. */
export const REFUSALS = {
  budget: 'as much evidence waits for the store as may (wal.unsettledBytesMax)',
  memory: 'memory for traces that wait is used up (join.indexBytesMax)',
  disk: 'the disk is nearly full (wal.freeBytesMin)',
} as const;

export type Refusal = keyof typeof REFUSALS;

/** What a load balancer or an orchestrator wants to know. */
export interface Readiness {
  readonly stopping: boolean;
  /** Empty while evidence is accepted. */
  readonly refusing: readonly Refusal[];
  /** Part of wal.unsettledBytesMax that is used, 0 to 1, while the store takes nothing; undefined while it does. */
  readonly bufferingShare: number | undefined;
  /** What an earlier run left is being read; records are written when that is done. */
  readonly replaying: boolean;
}

/** Refused senders come back by themselves; a prober may do the same. */
const RETRY_AFTER_SECONDS = 5;

/**
 * `GET /readyz`: 200 as long as evidence is accepted, 503 otherwise, and a line for each condition, the one that counts first.
 * A store that is away is no reason to send evidence elsewhere: it is durable here, and others wait for the same store. The lines
 * say nothing that a stranger could use; what the store said is in `GET /api/v1/pipeline`.
 */
export function addReadinessRoute(server: FastifyInstance, readiness: () => Readiness): void {
  server.get('/readyz', async (_request, reply) => {
    const found = readiness();
    const isReady = !found.stopping && found.refusing.length === 0;
    if (!isReady) reply.header('retry-after', RETRY_AFTER_SECONDS);
    return reply
      .code(isReady ? 200 : 503)
      .type('text/plain')
      .send(describeReadiness(found));
  });
}

/** Lines that end with a newline each. */
function describeReadiness({ stopping, refusing, bufferingShare, replaying }: Readiness): string {
  const lines = [
    ...(stopping ? ['stopping'] : []),
    ...refusing.map((reason) => `refusing: ${REFUSALS[reason]}`),
    ...(bufferingShare === undefined ? [] : [`store unreachable, buffering (${percent(bufferingShare)} %)`]),
    ...(replaying ? ['replaying: what an earlier run left is read again, records follow'] : []),
  ];
  return `${(lines.length === 0 ? ['ready'] : lines).join('\n')}\n`;
}

/** Full only when it is. */
function percent(share: number): number {
  return Math.min(Math.floor(100 * share), 100);
}
