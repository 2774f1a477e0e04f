import { createServer, request } from 'node:http';

/**
 * What stands between the store and the server may answer instead of it, or pass the request on and then keep the answer
 * for ever (`silence`) or break it off half-way (`cut`).
 */
export type Fault = (
  path: string,
  body: string,
) => { readonly status: number; readonly body?: object } | { readonly answer: 'silence' | 'cut' } | undefined;

export interface FaultyWay {
  readonly url: string;
  /** Paths of the requests that the server got. */
  readonly passed: readonly string[];
  fault: Fault | undefined;
  /** Waited for before a request goes on. */
  hold: ((path: string) => Promise<void>) | undefined;
  close(): Promise<void>;
}

/** A way to a real server that can fail: requests go through unless `fault` answers them. */
export async function openFaultyWay(target: string): Promise<FaultyWay> {
  const passed: string[] = [];
  const way: { -readonly [key in keyof FaultyWay]: FaultyWay[key] } = {
    url: '',
    passed,
    fault: undefined,
    hold: undefined,
    close: async () => {},
  };
  const server = createServer((incoming, outgoing) => {
    const chunks: Buffer[] = [];
    incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
    incoming.on('end', async () => {
      const body = Buffer.concat(chunks);
      const path = incoming.url ?? '/';
      await way.hold?.(path);
      const answer = way.fault?.(path, body.toString());
      if (answer && 'status' in answer) {
        outgoing.writeHead(answer.status, { 'content-type': 'application/json', 'x-elastic-product': 'Elasticsearch' });
        outgoing.end(JSON.stringify(answer.body ?? { error: { reason: 'made to fail' } }));
        return;
      }
      passed.push(path);
      const { method, headers } = incoming;
      const onward = request(new URL(path, target), { method, headers }, (response) => {
        if (answer?.answer === 'silence') {
          response.resume();
          return;
        }
        outgoing.writeHead(response.statusCode ?? 500, response.headers);
        if (answer === undefined) response.pipe(outgoing);
        else response.once('data', (part: Buffer) => outgoing.write(part.subarray(0, part.length / 2), cut));
        function cut() {
          response.destroy();
          outgoing.destroy();
        }
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
