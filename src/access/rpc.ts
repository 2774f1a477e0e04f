import { SPAN_KIND, type Span } from '../core/evidence.ts';
import { compact, NAMES, section, serviceOf, textOf, words } from './attributes.ts';
import {
  type Draft,
  errorOf,
  failed,
  headline,
  joined,
  type Result,
  resultOfStatus,
  targetOf,
  typesOf,
} from './draft.ts';
import { clientSections } from './http.ts';

/** Status codes of gRPC by number (grpc/grpc, doc/statuscodes.md). */
const GRPC_CODES = words(
  'OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED RESOURCE_EXHAUSTED ' +
    'FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED',
);

const REFUSALS = new Set(['PERMISSION_DENIED', 'UNAUTHENTICATED']);

/** Service and method; the stable conventions put both into `rpc.method` as `package.Service/Method`. */
export function rpcNames(span: Span): { service?: string; method?: string } {
  const stated = textOf(span.attributes, NAMES.rpcService);
  const method = textOf(span.attributes, NAMES.rpcMethod);
  const slash = method?.lastIndexOf('/') ?? -1;
  if (method === undefined || slash < 0) return compact({ service: stated, method });
  return compact({ service: stated ?? method.slice(0, slash).replace(/^\//, ''), method: method.slice(slash + 1) });
}

function statusOf(span: Span): string | undefined {
  const status = textOf(span.attributes, NAMES.rpcStatus);
  return status === undefined
    ? undefined
    : (GRPC_CODES[/^\d+$/.test(status) ? Number(status) : -1] ?? status).toUpperCase();
}

/** A server span that answered a remote procedure call. */
export function readRpcServer(span: Span): Draft | undefined {
  if (span.kind !== SPAN_KIND.server) return undefined;
  const system = textOf(span.attributes, NAMES.rpcSystem);
  const { service, method } = rpcNames(span);
  if (system === undefined && method === undefined) return undefined;
  const status = statusOf(span);
  const result = resultOfRpc(span, status);
  const called = [service, method].filter(Boolean).join('/') || span.name;
  const from = serviceOf(span);
  return {
    preset: 'rpc.server',
    action: method ?? span.name,
    category: status === 'UNAUTHENTICATED' ? ['api', 'authentication'] : ['api'],
    type: typesOf('access', result),
    kind: 'event',
    target: targetOf('rpc method', called, joined(from, called), from),
    ...result,
    sections: compact({ rpc: section({ system, service, method, status_code: status }), ...clientSections(span) }),
  };
}

function resultOfRpc(span: Span, status: string | undefined): Result {
  if (status === undefined || status === 'OK') return resultOfStatus(span);
  // JSON-RPC has no codes for success: any code is an error.
  const error = errorOf(span);
  const detail = headline(error?.message) ?? textOf(span.attributes, NAMES.rpcMessage);
  const service = serviceOf(span);
  const said = service === undefined ? status : `${status} from ${service}`;
  return failed(
    REFUSALS.has(status) ? 'deny' : 'none',
    detail ? `${said}: ${detail}` : said,
    // A bare status is the number of a code, if anything.
    { ...error, type: error?.type !== undefined && !/^\d+$/.test(error.type) ? error.type : status },
  );
}
