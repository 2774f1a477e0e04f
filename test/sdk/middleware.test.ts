import { once } from 'node:events';
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { context, ROOT_CONTEXT } from '@opentelemetry/api';
import { contextBase, core, node, tracing } from '@opentelemetry/sdk-node';
import express, { type NextFunction, type Request, type Response } from 'express';
import { type FastifyInstance, type FastifyRequest, fastify } from 'fastify';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { expressUser, fastifyUser } from '../../src/sdk/user-middleware.ts';

/** The frameworks are real; the span of a request is made as the HTTP instrumentation makes it, and ends when the answer is closed. */
const spans = new tracing.InMemorySpanExporter();
const provider = new node.NodeTracerProvider({ spanProcessors: [new tracing.SimpleSpanProcessor(spans)] });
const ends: (() => unknown)[] = [];

beforeAll(() => provider.register());
afterAll(() => {
  contextBase.trace.disable();
  context.disable();
});
afterEach(async () => {
  spans.reset();
  for (const end of ends.splice(0)) await end();
});

function traced(listener: RequestListener): RequestListener {
  return (request, response) => {
    const span = provider.getTracer('http').startSpan('GET');
    const metadata: core.RPCMetadata = { type: core.RPCType.HTTP, span };
    response.once('close', () => {
      if (metadata.route !== undefined) span.setAttribute('http.route', metadata.route);
      span.end();
    });
    const inside = contextBase.trace.setSpan(core.setRPCMetadata(ROOT_CONTEXT, metadata), span);
    // Frameworks run what they call in spans of their own.
    const inner = provider.getTracer('framework').startSpan('middleware', {}, inside);
    context.with(contextBase.trace.setSpan(inside, inner), () => listener(request, response));
    inner.end();
  };
}

/** The attributes of the request's span after one GET of `/things/7`; status 0 when the client went away. */
async function ask(listener: RequestListener, signal?: AbortSignal): Promise<{ status: number; attributes: object }> {
  const server = createServer(traced(listener)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  ends.push(() => server.close());
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/things/7`;
  const { status } = await fetch(url, signal && { signal }).catch(() => ({ status: 0 }));
  const finished = () => spans.getFinishedSpans();
  await expect.poll(() => finished().filter(({ name }) => name === 'GET')).toHaveLength(1);
  expect(finished().find(({ name }) => name === 'middleware')?.attributes).toEqual({});
  return { status, attributes: finished().find(({ name }) => name === 'GET')?.attributes ?? {} };
}

const ALICE = { id: 'u-17', username: 'alice', email: 'alice@example.org', roles: ['nurse'] };
const TOLD = { 'user.id': 'u-17', 'user.name': 'alice', 'user.email': 'alice@example.org', 'user.roles': ['nurse'] };
const logIn = (request: object) => Object.assign(request, { user: ALICE });

describe('expressUser', () => {
  const check = (request: Request, _response: Response, next: NextFunction) => {
    logIn(request);
    next();
  };
  const answer = (_request: Request, response: Response) => void response.send('ok');
  const serve = (build: (app: express.Express) => void, signal?: AbortSignal) => {
    const app = express();
    build(app);
    return ask(app as unknown as (request: IncomingMessage, response: ServerResponse) => void, signal);
  };

  it.each<[string, (app: express.Express) => void, object]>([
    ['after the login check', (app) => app.use(check, expressUser()).get('/things/:id', answer), TOLD],
    ['before the login check', (app) => app.use(expressUser(), check).get('/things/:id', answer), TOLD],
    ['where one route checks the login', (app) => app.use(expressUser()).get('/things/:id', check, answer), TOLD],
    ['where nobody is logged in', (app) => app.use(expressUser()).get('/things/:id', answer), {}],
    [
      'with a way of its own to tell',
      (app) => app.use(expressUser(({ path }: Request) => ({ id: `of ${path}` }))).get('/things/:id', answer),
      { 'user.id': 'of /things/7' },
    ],
    [
      'for an agent',
      (app) =>
        app
          .use(expressUser(() => ({ id: 'bot', type: 'agent', onBehalfOf: { id: 'alice' } })))
          .get('/things/:id', answer),
      { 'user.id': 'bot', 'audit.actor.type': 'agent', 'user.effective.id': 'alice' },
    ],
  ])('%s', async (_, build, attributes) => {
    expect(await serve(build)).toEqual({ status: 200, attributes });
  });

  it('tells whose request it was when the client does not wait for the answer', async () => {
    const leaving = new AbortController();
    const hang = (request: Request) => {
      logIn(request);
      leaving.abort();
    };
    const asked = await serve((app) => app.use(expressUser()).get('/things/:id', hang), leaving.signal);
    expect(asked).toEqual({ status: 0, attributes: TOLD });
  });

  it('lets no request fail for what it cannot tell', async () => {
    const broken = expressUser(() => {
      throw new Error('no session store');
    });
    expect(await serve((app) => app.use(broken).get('/things/:id', answer))).toEqual({ status: 200, attributes: {} });
  });
});

describe('fastifyUser', () => {
  type Build = (app: FastifyInstance) => void;
  const serve = async (build: Build) => {
    const app = fastify();
    build(app);
    await app.ready();
    return ask((request, response) => app.routing(request, response));
  };
  const route = '/things/:id';
  const check = async (request: FastifyRequest) => void logIn(request);
  const http = { 'http.route': route };

  it.each<[string, Build, object]>([
    [
      'before a check in onRequest',
      (app) =>
        app
          .register(fastifyUser)
          .addHook('onRequest', check)
          .get(route, () => 'ok'),
      { ...http, ...TOLD },
    ],
    [
      "before a route's own check",
      (app) => app.register(fastifyUser).after(() => void app.get(route, { preHandler: check }, () => 'ok')),
      { ...http, ...TOLD },
    ],
    [
      'for routes of other plugins',
      (app) =>
        app.register(fastifyUser).register((inner, _options, done) => {
          inner.addHook('preValidation', check).get(route, () => 'ok');
          done();
        }),
      { ...http, ...TOLD },
    ],
    [
      'with a way of its own to tell',
      (app) =>
        app
          .register(fastifyUser, { identify: ({ params }) => ({ id: `of ${(params as { id: string }).id}` }) })
          .after(() => void app.get(route, () => 'ok')),
      { ...http, 'user.id': 'of 7' },
    ],
    [
      'where nobody is logged in',
      (app) => app.register(fastifyUser).after(() => void app.get(route, () => 'ok')),
      http,
    ],
  ])('%s', async (_, build, attributes) => {
    expect(await serve(build)).toEqual({ status: 200, attributes });
  });

  it('tells the route of a request that a hook refuses', async () => {
    const refused = await serve((app) => {
      app.register(fastifyUser).after(() => {
        app.addHook('preValidation', async (_request, reply) => reply.code(403).send('no'));
        app.get(route, () => 'never');
      });
    });
    expect(refused).toEqual({ status: 403, attributes: http });
  });
});
