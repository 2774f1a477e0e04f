import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import type { AddressInfo } from 'node:net';

export interface Received {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** A receiver of webhooks on this machine: keeps what came, answers as it is told. */
export async function startReceiver(
  answer: (response: ServerResponse, received: Received, count: number) => void = (response) => response.end('ok'),
  tls?: { readonly cert: string; readonly key: string },
) {
  const received: Received[] = [];
  const listen = tls ? createSecureServer.bind(undefined, tls) : createServer;
  const server = listen(async (request, response) => {
    let body = '';
    for await (const part of request.setEncoding('utf8')) body += part;
    const one = { path: request.url ?? '', headers: request.headers, body };
    received.push(one);
    answer(response, one, received.length);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    received,
    port,
    url: `${tls ? 'https' : 'http'}://127.0.0.1:${port}/hook`,
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}
