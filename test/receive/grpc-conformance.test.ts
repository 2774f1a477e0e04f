import { connect, type IncomingHttpHeaders } from 'node:http2';
import {
  Client,
  credentials,
  Metadata,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startGrpcServer } from '../../src/receive/grpc-server.ts';
import { CLIENT_TIMES } from '../../src/receive/listen.ts';
import { frame, type Harness, startHarness } from './harness.ts';

/** A method that both servers have, and how it answers: at once, late, or with an error. */
const PATH = '/test.Echo/Say';
const LATE_MS = 300;
const BYTES_MAX = 100_000;

const bytes = (message: Buffer): Buffer => message;

async function answer(message: Buffer): Promise<Buffer> {
  if (message[0] === 0x4c) await new Promise((resolve) => setTimeout(resolve, LATE_MS));
  return Buffer.concat([message, message]);
}

let harness: Harness;
let ours: Awaited<ReturnType<typeof startGrpcServer>>;
let reference: Server;
let ports: Record<'ours' | 'grpc-js', number>;

beforeAll(async () => {
  harness = await startHarness();
  ours = await startGrpcServer({
    ...harness.options,
    requestBytesMax: BYTES_MAX,
    times: CLIENT_TIMES,
    methods: [
      { path: PATH, signal: 'logs', handle: async (message) => ({ kind: 'message', message: await answer(message) }) },
    ],
  });
  reference = new Server({ 'grpc.max_receive_message_length': BYTES_MAX });
  const reply = ({ request }: ServerUnaryCall<Buffer, Buffer>, callback: sendUnaryData<Buffer>): void => {
    void answer(request).then((message) => callback(null, message));
  };
  reference.register(PATH, reply, bytes, bytes, 'unary');
  const port = await new Promise<number>((resolve, reject) => {
    reference.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  ports = { ours: ours.port, 'grpc-js': port };
});

afterAll(async () => {
  reference.forceShutdown();
  await Promise.all([ours.close(1000), harness.close()]);
});

interface Sent {
  readonly headers?: Record<string, string | undefined>;
  readonly pieces: readonly Buffer[];
}

interface Said {
  readonly http: unknown;
  readonly type: unknown;
  readonly status: unknown;
  readonly body: string;
  readonly hasTrailers: boolean;
}

/** What a server says to a request, piece by piece. */
function say(port: number, { headers = {}, pieces }: Sent): Promise<Said> {
  const session = connect(`http://127.0.0.1:${port}`);
  return new Promise<Said>((resolve, reject) => {
    const given = { ':method': 'POST', ':path': PATH, 'content-type': 'application/grpc', te: 'trailers', ...headers };
    const defined = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
    const stream = session.request(defined, { endStream: pieces.length === 0 });
    let first: IncomingHttpHeaders = {};
    let last: IncomingHttpHeaders | undefined;
    const chunks: Buffer[] = [];
    stream.on('response', (response) => {
      first = response;
    });
    stream.on('trailers', (trailers) => {
      last = trailers;
    });
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('error', reject);
    session.on('error', reject);
    stream.on('close', () =>
      resolve({
        http: first[':status'],
        type: first['content-type'],
        status: (last ?? first)['grpc-status'],
        body: Buffer.concat(chunks).toString('hex'),
        hasTrailers: last !== undefined,
      }),
    );
    const write = (at: number): void => {
      if (at < pieces.length - 1) stream.write(pieces[at], () => setTimeout(write, 10, at + 1));
      else stream.end(pieces[at]);
    };
    if (pieces.length > 0) write(0);
  }).finally(() => session.destroy());
}

const hello = frame(Buffer.from('hello'));
const late = frame(Buffer.from('Late'));
const large = frame(Buffer.alloc(BYTES_MAX, 7));

describe('answers as grpc-js does', () => {
  it.each<[string, Sent, number | undefined]>([
    ['to a message', { pieces: [hello] }, status.OK],
    ['to an empty message', { pieces: [frame(Buffer.alloc(0))] }, status.OK],
    ['to one of the largest size', { pieces: [large] }, status.OK],
    ['to a byte more', { pieces: [frame(Buffer.alloc(BYTES_MAX + 1))] }, status.RESOURCE_EXHAUSTED],
    ['to a message in pieces', { pieces: [...hello].map((byte) => Buffer.of(byte)) }, status.OK],
    ['to a prefix, then a message', { pieces: [hello.subarray(0, 5), hello.subarray(5)] }, status.OK],
    ['when the end comes on its own', { pieces: [hello, Buffer.alloc(0)] }, status.OK],
    ['to no message', { pieces: [Buffer.alloc(0)] }, status.UNIMPLEMENTED],
    ['to headers alone', { pieces: [] }, status.UNIMPLEMENTED],
    ['to half a prefix', { pieces: [hello.subarray(0, 3)] }, status.UNIMPLEMENTED],
    ['to half a message', { pieces: [hello.subarray(0, 7)] }, status.UNIMPLEMENTED],
    ['to an unknown method', { headers: { ':path': '/test.Echo/Sing' }, pieces: [hello] }, status.UNIMPLEMENTED],
    ['to an unknown service', { headers: { ':path': '/test.Song/Say' }, pieces: [hello] }, status.UNIMPLEMENTED],
    ['to a path that is none', { headers: { ':path': '/' }, pieces: [hello] }, status.UNIMPLEMENTED],
    ['to +proto', { headers: { 'content-type': 'application/grpc+proto' }, pieces: [hello] }, status.OK],
    ['to JSON', { headers: { 'content-type': 'application/json' }, pieces: [hello] }, undefined],
    ['to no content type', { headers: { 'content-type': undefined }, pieces: [hello] }, undefined],
    [
      'to an encoding nobody knows',
      { headers: { 'grpc-encoding': 'br' }, pieces: [frame(Buffer.from('x'), true)] },
      status.UNIMPLEMENTED,
    ],
    ['to one that is not used', { headers: { 'grpc-encoding': 'br' }, pieces: [hello] }, status.OK],
    ['in time', { headers: { 'grpc-timeout': '5S' }, pieces: [late] }, status.OK],
    ['too late', { headers: { 'grpc-timeout': '50m' }, pieces: [late] }, status.DEADLINE_EXCEEDED],
    ['with no time at all', { headers: { 'grpc-timeout': '1n' }, pieces: [late] }, status.DEADLINE_EXCEEDED],
    ['to a deadline that is none', { headers: { 'grpc-timeout': 'soon' }, pieces: [hello] }, status.INTERNAL],
    ['to a deadline in years', { headers: { 'grpc-timeout': '99999999H' }, pieces: [hello] }, status.OK],
  ])('%s', async (_, sent, code) => {
    const said = await say(ports.ours, sent);
    expect(said).toEqual(await say(ports['grpc-js'], sent));
    expect(said.status).toBe(code === undefined ? undefined : String(code));
    await expect.poll(() => [harness.inFlight.bytes, harness.inFlight.requests]).toEqual([0, 0]);
  });
});

describe('serves the client of grpc-js', () => {
  function call(client: Client, message: string, options = {}): Promise<string> {
    return new Promise((resolve, reject) => {
      const done = (error: Error | null, value?: Buffer): void => (error ? reject(error) : resolve(String(value)));
      client.makeUnaryRequest(PATH, bytes, bytes, Buffer.from(message), new Metadata(), options, done);
    });
  }

  it('with many calls at once on one connection, however they end', async () => {
    const client = new Client(`127.0.0.1:${ports.ours}`, credentials.createInsecure(), {
      'grpc.keepalive_time_ms': 20,
      'grpc.keepalive_permit_without_calls': 1,
    });
    const long = 'x'.repeat(40_000);
    const calls = Array.from({ length: 300 }, (_, index) => {
      if (index % 3 === 0) return call(client, long);
      if (index % 3 === 1) return call(client, 'hi', { deadline: Date.now() + 30_000 });
      return call(client, 'Late', { deadline: Date.now() + 100 });
    });
    const ended = await Promise.allSettled(calls);
    expect(ended.map((end) => (end.status === 'fulfilled' ? end.value.length : end.reason.code))).toEqual(
      calls.map((_, index) => [80_000, 4, status.DEADLINE_EXCEEDED][index % 3]),
    );
    client.close();
    await expect.poll(() => [harness.inFlight.bytes, harness.inFlight.requests]).toEqual([0, 0]);
  });

  it('finishes what runs when it closes, and takes nothing new', async () => {
    const closing = await startGrpcServer({
      ...harness.options,
      methods: [
        { path: PATH, signal: 'logs', handle: async (given) => ({ kind: 'message', message: await answer(given) }) },
      ],
    });
    const client = new Client(`127.0.0.1:${closing.port}`, credentials.createInsecure());
    expect(await call(client, 'hi')).toBe('hihi');
    const running = call(client, 'Late');
    await expect.poll(() => harness.inFlight.requests).toBe(1);
    const closed = closing.close(10_000);
    expect(await running).toBe('LateLate');
    await closed;
    await expect(call(client, 'hi', { deadline: Date.now() + 500 })).rejects.toThrow();
    client.close();
  });
});
