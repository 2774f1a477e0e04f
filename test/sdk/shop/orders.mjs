// The orders service, on Fastify: it records what a look at an order means in the shop's own words.
import { fastify } from 'fastify';
import { fastifyUser, recordAccess } from 'spantrail/sdk';

const app = fastify();
app.register(fastifyUser, {
  identify: ({ headers }) =>
    headers['x-shop-user'] && { id: headers['x-shop-user'], roles: headers['x-shop-roles']?.split(',') },
});
app.get('/orders/:id', (request, reply) => {
  const { id } = request.params;
  const isLocked = id === '13';
  recordAccess({
    action: 'open-order',
    target: { type: 'order', id: `orders/${id}` },
    outcome: isLocked ? 'failure' : 'success',
    decision: isLocked ? 'deny' : 'allow',
    reason: isLocked ? 'the order is under legal hold' : undefined,
    rule: { id: 'legal-hold', name: 'Orders under legal hold are closed' },
    checks: [
      { permission: 'order:read', target: `orders/${id}`, granted: !isLocked, rule: 'legal-hold', durationMs: 1.5 },
    ],
    purpose: 'ticket 4711',
  });
  return isLocked ? reply.code(403).send({ error: 'locked' }) : { id, items: 3 };
});
process.stdout.write(`listening on ${new URL(await app.listen({ host: '127.0.0.1', port: 0 })).port}\n`);
