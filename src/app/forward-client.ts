import { readFileSync } from 'node:fs';
import { type ChannelCredentials, Client, credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import type { Settings } from '../config/schema.ts';
import { AppError, describeError } from '../core/errors.ts';
import { WIRE, WireCursor, WireError } from '../otlp/wire.ts';

/**
 * - `sent`: the Collector has it
 * - `refused`: it never takes this request; a part of it perhaps
 * - `failed`: not now; the same again later
 */
export type ForwardAnswer =
  | { readonly kind: 'sent' }
  | { readonly kind: 'refused' | 'failed'; readonly reason: string };

export interface ForwardClient {
  /** Never rejects. */
  send(request: Buffer): Promise<ForwardAnswer>;
  close(): void;
}

type ForwardSettings = Settings['forward'];

const PATH = '/opentelemetry.proto.collector.logs.v1.LogsService/Export';
const PORT_DEFAULT = 4317;

/** Collectors answer within milliseconds when they are well; a queue on a slow disk takes longer. */
const DEADLINE_MS = 5_000;

/** Of what OTLP says not to send again, those that say that the request is at fault. Others are for whoever set up the Collector. */
const REFUSALS: ReadonlySet<status> = new Set([
  status.INVALID_ARGUMENT,
  status.OUT_OF_RANGE,
  status.RESOURCE_EXHAUSTED,
]);

/** In the details of a status that means "later", whatever its code. */
const RETRY_INFO = Buffer.from('google.rpc.RetryInfo');

/** Throws AppError('config') for certificates that cannot be used. */
export function openForwardClient(settings: ForwardSettings, endpoint: string): ForwardClient {
  const url = new URL(endpoint);
  const address = `${url.hostname}:${url.port === '' ? PORT_DEFAULT : url.port}`;
  const isSecure = url.protocol === 'https:';
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(settings.headers)) metadata.set(name, value);
  const open = () => new Client(address, isSecure ? tlsOf(settings.tls) : credentials.createInsecure());
  let client: Client | undefined = open();
  const same = (bytes: Buffer) => bytes;
  const call = (via: Client, request: Buffer): Promise<ForwardAnswer> =>
    new Promise((resolve) => {
      const deadline = Date.now() + DEADLINE_MS;
      via.makeUnaryRequest(PATH, same, same, request, metadata, { deadline }, (error, answer) =>
        resolve(error ? failureOf(error) : answerOf(answer)),
      );
    });
  return {
    async send(request) {
      try {
        client ??= open();
        const answer = await call(client, request);
        if (answer.kind !== 'failed') return answer;
        // The next try has a new connection, with certificates as they are then.
        client.close();
        client = undefined;
        return answer;
      } catch (error) {
        return { kind: 'failed', reason: describeError(error) };
      }
    },
    close() {
      client?.close();
    },
  };
}

function tlsOf({ caFile, certFile, keyFile }: ForwardSettings['tls']): ChannelCredentials {
  const read = (name: string, file: string | undefined) =>
    file === undefined ? null : readPem(`forward.tls.${name}`, file);
  try {
    return credentials.createSsl(read('caFile', caFile), read('keyFile', keyFile), read('certFile', certFile));
  } catch (cause) {
    if (cause instanceof AppError) throw cause;
    throw new AppError('config', `forward.tls: the certificates cannot be used: ${describeError(cause)}`, { cause });
  }
}

function readPem(setting: string, file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (cause) {
    throw new AppError('config', `${setting}: ${file} cannot be read: ${describeError(cause)}`, { cause });
  }
}

function failureOf({ code, details, metadata }: ServiceError): ForwardAnswer {
  const reason = `${status[code]}: ${details}`;
  const isLater = metadata.get('grpc-status-details-bin').some((value) => Buffer.from(value).includes(RETRY_INFO));
  return { kind: REFUSALS.has(code) && !isLater ? 'refused' : 'failed', reason };
}

/** ExportLogsServiceResponse: 1 partial_success, in it 1 rejected_log_records. */
function answerOf(answer: Buffer | undefined): ForwardAnswer {
  const cursor = new WireCursor(answer ?? Buffer.alloc(0));
  const end = cursor.bytes.length;
  try {
    while (cursor.position < end) {
      const tag = cursor.tag(end);
      if (tag !== ((1 << 3) | WIRE.delimited)) {
        cursor.skip(tag, end);
        continue;
      }
      const partEnd = cursor.delimitedEnd(end);
      while (cursor.position < partEnd) {
        const inner = cursor.tag(partEnd);
        if (inner !== 1 << 3) cursor.skip(inner, partEnd);
        else if (Number(cursor.int64(partEnd)) > 0) return { kind: 'refused', reason: 'a part of it was rejected' };
      }
    }
  } catch (thrown) {
    if (!(thrown instanceof WireError)) throw thrown;
    return { kind: 'failed', reason: 'the answer is no OTLP' };
  }
  return { kind: 'sent' };
}
