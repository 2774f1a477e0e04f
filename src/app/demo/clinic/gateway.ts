import { randomUUID } from 'node:crypto';
import { type FastifyRequest, fastify } from 'fastify';
import { PEOPLE, type Person, ROUTES } from './people.ts';

/**
 * The door of the clinic: it checks the login, gives out sessions, and tells the records service who asks with
 * x-forwarded-user and x-user-roles.
 */
const sessions = new Map<string, Person>();
/** Known once the records service is up, some time after people have begun to log in. */
let recordsUrl = '';

const app = fastify();

app.post('/login', (request, reply) => {
  const [name, password] = credentials(request, 'Basic').split(':');
  const person = PEOPLE.find((one) => one.name === name && one.password === password);
  if (person === undefined) return reply.code(401).send({ error: 'user or password is wrong' });
  const session = randomUUID();
  sessions.set(session, person);
  return { session };
});

for (const [method, url] of ROUTES) {
  app.route({
    method,
    url,
    handler: async (request, reply) => {
      const person = sessions.get(credentials(request, 'Bearer'));
      if (person === undefined) return reply.code(401).send({ error: 'log in first' });
      const answer = await fetch(recordsUrl + request.url, {
        method,
        headers: {
          'content-type': 'application/json',
          'x-forwarded-user': person.name,
          'x-user-roles': person.role,
        },
        body: request.body === undefined || request.body === null ? null : JSON.stringify(request.body),
      });
      return reply.code(answer.status).send(await answer.json());
    },
  });
}

function credentials({ headers }: FastifyRequest, scheme: 'Basic' | 'Bearer'): string {
  const [given, text = ''] = (headers.authorization ?? '').split(' ');
  if (given !== scheme) return '';
  return scheme === 'Basic' ? Buffer.from(text, 'base64').toString('utf8') : text;
}

/** The board in the entrance hall: the gateway asks in its own name, nobody is logged in. */
const BOARD_EVERY_MS = 9_000;

process.on('message', (message: { recordsUrl: string }) => {
  recordsUrl = message.recordsUrl;
  const refresh = () => void fetch(`${recordsUrl}/occupancy`, { headers: { 'x-user-roles': 'board' } }).catch(() => {});
  refresh();
  setInterval(refresh, BOARD_EVERY_MS);
});

const url = await app.listen({ host: '127.0.0.1', port: 0 });
process.send?.({ url });
