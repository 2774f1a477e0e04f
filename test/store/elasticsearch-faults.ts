import { createServer, request } from 'node:http';

/** What stands between the store and the server may answer instead of it. */
export type Fault = (path: string, body: string) => { readonly status: number; readonly body?: object } | undefined;

export interface FaultyWay {
  readonly url: string;
  /** Paths of the requests that the server got. */
  readonly passed: readonly string[];
  fault: Fault | undefined;
  close(): Promise<void>;
}

/** A way to a real server that can fail: requests go through unless `fault` answers them. */
export async function openFaultyWay(target: string): Promise<FaultyWay> {
  const passed: string[] = [];
  const way = { url: '', passed, fault: undefined as Fault | undefined, close: async () => {} };
  const server = createServer((incoming, outgoing) => {
    const chunks: Buffer[] = [];
    incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
    incoming.on('end', () => {
      const body = Buffer.concat(chunks);
      const path = incoming.url ?? '/';
      const answer = way.fault?.(path, body.toString());
      if (answer) {
        outgoing.writeHead(answer.status, { 'content-type': 'application/json', 'x-elastic-product': 'Elasticsearch' });
        outgoing.end(JSON.stringify(answer.body ?? { error: { reason: 'made to fail' } }));
        return;
      }
      passed.push(path);
      const { method, headers } = incoming;
      const onward = request(new URL(path, target), { method, headers }, (response) => {
        outgoing.writeHead(response.statusCode ?? 500, response.headers);
        response.pipe(outgoing);
      });
      onward.end(body);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  way.url = `http://127.0.0.1:${typeof address === 'object' && address ? address.port : 0}`;
  way.close = async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  return way;
}
