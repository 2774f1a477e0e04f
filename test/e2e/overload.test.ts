/** A process in its usual shape under senders that want more than their share: what is small is served, nothing is lost. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { encodeTraces, type TestSpan } from '../otlp/encode.ts';
import { callGrpc, callHttp } from '../receive/harness.ts';
import { RawConnection } from '../receive/raw-http2.ts';
import { type RunningProcess, startProcess } from './spantrail.ts';

const ENVIRONMENT = {
  SPANTRAIL_RECEIVE_MAX_REQUEST_BYTES: '1MiB',
  SPANTRAIL_RECEIVE_IN_FLIGHT_BYTES_MAX: '2MiB',
  SPANTRAIL_RECEIVE_CONNECTIONS_MAX: '300',
};

const protobuf = { 'content-type': 'application/x-protobuf' };

/** One access, as one trace of one span; the padding is not kept in its record. */
function access(service: string, number: number, paddingBytes = 0): Buffer {
  const span: TestSpan = {
    traceId: (service === 'greedy' ? '1' : '2') + String(number).padStart(31, '0'),
    spanId: String(number + 1).padStart(16, '0'),
    name: 'GET /orders/{id}',
    kind: 2,
    startNs: 1_795_000_000_000_000_000n,
    endNs: 1_795_000_000_010_000_000n,
    attributes: {
      'http.request.method': 'GET',
      'http.route': '/orders/{id}',
      'url.path': `/orders/${number}`,
      padding: 'x'.repeat(paddingBytes),
    },
  };
  return encodeTraces([{ attributes: { 'service.name': service }, spans: [span] }]);
}

describe('a process with a greedy sender', () => {
  let folder: string;
  let spantrail: RunningProcess;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spantrail-overload-'));
    spantrail = await startProcess(['--store', 'memory', '--data-dir', folder], ENVIRONMENT);
  });
  afterEach(async () => {
    await spantrail.stop('SIGKILL');
    await rm(folder, { recursive: true, force: true });
  });

  async function sendHttp(payload: Buffer): Promise<number> {
    const answer = await callHttp(`http://127.0.0.1:${spantrail.http}/v1/traces`, { headers: protobuf, body: payload });
    return answer.status;
  }

  async function sendGrpc(payload: Buffer): Promise<number> {
    return (await callGrpc(spantrail.grpc, payload)).status;
  }

  async function cuts(): Promise<Record<string, number>> {
    const samples = (await spantrail.pipeline()).counters.filter((sample) => sample.name === 'cut');
    return Object.fromEntries(
      samples.map(({ labels, value }) => [`${labels['transport']} ${labels['reason']}`, value]),
    );
  }

  it('serves a small one at its first try, and the greedy one after retries: every access once', async () => {
    const [greedyRequests, smallRequests] = [60, 60];
    const refused: number[] = [];
    let next = 0;
    const greedy = Array.from({ length: 16 }, async (_, sender) => {
      while (next < greedyRequests) {
        const payload = access('greedy', next++, 900_000);
        for (;;) {
          const status = await (sender % 2 === 0 ? sendHttp(payload) : sendGrpc(payload));
          if (status === 0 || status === 200) break;
          refused.push(status);
          await sleep(50);
        }
      }
    });
    const statuses: number[] = [];
    for (let number = 0; number < smallRequests; number++) {
      statuses.push(await (number % 2 === 0 ? sendHttp : sendGrpc)(access('small', number)));
    }
    await Promise.all(greedy);
    expect(statuses.filter((status) => status !== 0 && status !== 200)).toEqual([]);
    // 8 and 14 are gRPC's RESOURCE_EXHAUSTED and UNAVAILABLE.
    expect(refused.length).toBeGreaterThan(0);
    expect(refused.filter((status) => ![8, 14, 429, 503].includes(status))).toEqual([]);
    await spantrail.settled();
    for (const [service, requests] of [
      ['greedy', greedyRequests],
      ['small', smallRequests],
    ] as const) {
      const found = await spantrail.search(`service.name: ${service}`);
      expect(found.length).toBe(requests);
      expect(new Set(found.map((record) => record.event.id)).size).toBe(requests);
    }
    const counted = Object.values(await cuts()).reduce((sum, count) => sum + count, 0);
    expect(counted).toBe(refused.length);
  });

  it('serves a small one beside half-sent requests and connections that nothing comes of, and says so in its metrics', async () => {
    const idle = Array.from({ length: 400 }, () => RawConnection.open(spantrail.grpc, [], '127.0.0.9'));
    const half = Array.from({ length: 20 }, () => new RawConnection(spantrail.http, '127.0.0.8'));
    for (const { socket } of half) {
      socket.write(
        'POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: 900000\r\n\r\nx',
      );
    }
    await expect.poll(async () => (await cuts())['grpc connections'], { timeout: 30_000 }).toBeGreaterThanOrEqual(200);
    await expect.poll(async () => (await cuts())['http share'], { timeout: 30_000 }).toBeGreaterThan(0);
    const statuses: number[] = [];
    for (let number = 0; number < 40; number++) {
      statuses.push(await (number % 2 === 0 ? sendHttp : sendGrpc)(access('small', number)));
    }
    expect(statuses.filter((status) => status !== 0 && status !== 200)).toEqual([]);
    const metrics = await (await fetch(`http://127.0.0.1:${spantrail.api}/metrics`)).text();
    expect(metrics).toMatch(/cut[^\n]*transport="grpc"[^\n]*reason="connections"[^\n]* \d+/);
    expect(metrics).toMatch(/connections\S* 2\d\d/);
    for (const connection of [...idle, ...half]) connection.destroy();
    await spantrail.settled();
    expect((await spantrail.search('service.name: small')).length).toBe(40);
  });

  it.skipIf(process.platform !== 'linux')('holds no more than its bound of many large requests at once', async () => {
    const mebibyte = 1024 * 1024;
    const residentBytes = async (): Promise<number> => {
      const status = await readFile(`/proc/${spantrail.process.pid}/status`, 'utf8');
      return Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1]) * 1024;
    };
    expect(await sendHttp(access('small', 0))).toBe(200);
    const before = await residentBytes();
    const body = Buffer.alloc(mebibyte - 1, 1);
    const head = 'POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\n';
    // Each lacks its last byte, so that all of them would have to be held until the end.
    const held = Array.from({ length: 250 }, () => new RawConnection(spantrail.http, '127.0.0.7'));
    for (const { socket } of held) socket.write(`${head}content-length: ${mebibyte}\r\n\r\n`);
    for (const { socket } of held) socket.write(body);
    const refused = () => held.filter(({ socket }) => socket.bytesRead > 0 || socket.destroyed).length;
    await expect.poll(refused, { timeout: 60_000 }).toBeGreaterThan(190);
    expect((await residentBytes()) - before).toBeLessThan(200 * mebibyte);
    for (const connection of held) connection.destroy();
    expect(await sendHttp(access('small', 1))).toBe(200);
  });
});
