/**
 * HTTP/2 frame by frame over a plain socket, so that a test can say what no client library would: header blocks without an
 * end, streams that are reset as soon as they are opened, windows that never open. Only what the tests need of RFC 9113.
 */
import { connect, type Socket } from 'node:net';
import { PATHS } from './harness.ts';

export const FRAME = {
  data: 0,
  headers: 1,
  reset: 3,
  settings: 4,
  ping: 6,
  goAway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;

export const FLAG = { endStream: 1, ack: 1, endHeaders: 4 } as const;

/** RFC 9113, section 7. */
export const ERROR = { none: 0, cancel: 8, enhanceYourCalm: 11 } as const;

/** RFC 9113, section 6.5.2. */
export const SETTING = { initialWindowSize: 4 } as const;

export interface RawFrame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Buffer;
}

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const HEAD_BYTES = 9;

export function rawFrame(type: number, flags: number, stream: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(HEAD_BYTES);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** HPACK (RFC 7541) with nothing but literals that are not indexed: longer than needed, and legal. */
export function headerBlock(headers: Readonly<Record<string, string>>): Buffer {
  const texts = Object.entries(headers).flatMap(([name, value]) => [
    Buffer.from([0]),
    hpackText(name),
    hpackText(value),
  ]);
  return Buffer.concat(texts);
}

function hpackText(text: string): Buffer {
  const bytes = Buffer.from(text);
  const prefix: number[] = [];
  let rest = bytes.length;
  if (rest < 127) prefix.push(rest);
  else {
    prefix.push(127);
    for (rest -= 127; rest >= 128; rest = rest >> 7) prefix.push((rest & 127) | 128);
    prefix.push(rest);
  }
  return Buffer.concat([Buffer.from(prefix), bytes]);
}

export function exportHeaders(path: string = PATHS.traces): Record<string, string> {
  return {
    ':method': 'POST',
    ':scheme': 'http',
    ':path': path,
    ':authority': 'x',
    'content-type': 'application/grpc',
    te: 'trailers',
  };
}

export const EXPORT_BLOCK = headerBlock(exportHeaders());

/** One connection: what is written goes out as it is, what comes in is cut into frames. Never rejects by itself. */
export class RawConnection {
  readonly socket: Socket;
  readonly frames: RawFrame[] = [];
  /** Resolves when the server has closed the connection. */
  readonly closed: Promise<void>;
  /** Leaves settings and pings of the server without an answer. */
  deaf = false;
  #rest = Buffer.alloc(0);

  constructor(port: number, localAddress = '127.0.0.1') {
    this.socket = connect({ port, host: '127.0.0.1', localAddress });
    this.socket.on('error', () => undefined);
    this.socket.on('data', (chunk) => this.#take(chunk));
    this.closed = new Promise((resolve) => this.socket.once('close', () => resolve()));
  }

  /** Opens with the preface and these settings. */
  static open(
    port: number,
    settings: readonly (readonly [number, number])[] = [],
    localAddress?: string,
  ): RawConnection {
    const connection = new RawConnection(port, localAddress);
    const payload = Buffer.concat(
      settings.map(([id, value]) => Buffer.concat([Buffer.from([id >> 8, id & 255]), uint32(value)])),
    );
    connection.write(PREFACE, rawFrame(FRAME.settings, 0, 0, payload));
    return connection;
  }

  /** False when the socket's buffer is full; true once it was taken. */
  write(...parts: readonly Buffer[]): boolean {
    return !this.socket.destroyed && this.socket.write(Buffer.concat(parts));
  }

  /** Waits until what was written has left, or the connection is gone. */
  async flushed(): Promise<void> {
    if (this.socket.destroyed || !this.socket.writableNeedDrain) return;
    await Promise.race([new Promise<void>((resolve) => this.socket.once('drain', () => resolve())), this.closed]);
  }

  headers(stream: number, flags: number = FLAG.endHeaders, block: Buffer = EXPORT_BLOCK): void {
    this.write(rawFrame(FRAME.headers, flags, stream, block));
  }

  of(type: number, stream?: number): RawFrame[] {
    return this.frames.filter((frame) => frame.type === type && (stream === undefined || frame.stream === stream));
  }

  destroy(): void {
    this.socket.destroy();
  }

  #take(chunk: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, chunk]);
    while (this.#rest.length >= HEAD_BYTES) {
      const length = this.#rest.readUIntBE(0, 3);
      if (this.#rest.length < HEAD_BYTES + length) return;
      const frame = {
        type: this.#rest.readUInt8(3),
        flags: this.#rest.readUInt8(4),
        stream: this.#rest.readUInt32BE(5) & 0x7fffffff,
        payload: Buffer.from(this.#rest.subarray(HEAD_BYTES, HEAD_BYTES + length)),
      };
      this.#rest = this.#rest.subarray(HEAD_BYTES + length);
      this.frames.push(frame);
      this.#acknowledge(frame);
    }
  }

  #acknowledge({ type, flags, payload }: RawFrame): void {
    if (this.deaf || flags & FLAG.ack || (type !== FRAME.settings && type !== FRAME.ping)) return;
    this.write(rawFrame(type, FLAG.ack, 0, type === FRAME.ping ? payload : Buffer.alloc(0)));
  }
}
