import { countOf, NAMES, textOf } from '../access/attributes.ts';
import { rpcNames } from '../access/rpc.ts';
import { SPAN_KIND, type Span } from '../core/evidence.ts';

/** What the other side of a call answered, as its caller saw it: all there is of a service that sends no evidence itself. */
export interface Answer {
  readonly reason: string;
  /** The other side, when the span names it. */
  readonly from?: string;
  readonly isRefusal: boolean;
  readonly status: string;
  readonly protocol: 'http' | 'rpc';
  /** The method that was called. */
  readonly asked: string;
}

/** gRPC's codes for a refusal, by number and by name. */
const RPC_REFUSALS: ReadonlyMap<string, string> = new Map([
  ['7', 'PERMISSION_DENIED'],
  ['16', 'UNAUTHENTICATED'],
  ['PERMISSION_DENIED', 'PERMISSION_DENIED'],
  ['UNAUTHENTICATED', 'UNAUTHENTICATED'],
]);

function peerOf(span: Span): string | undefined {
  const named = textOf(span.attributes, [...NAMES.peerService, ...NAMES.serverAddress, 'net.peer.name']);
  const host = /^[a-z][\w+.-]*:\/\/(?:[^/?#@]*@)?([^/?#]+)/i.exec(textOf(span.attributes, NAMES.urlFull) ?? '')?.[1];
  return named ?? host?.replace(/:\d+$/, '');
}

/** The failing answer that a client span was given, with what the client says of it; undefined when it tells of none. */
export function answerOf(span: Span, message: string | undefined): Answer | undefined {
  if (span.kind !== SPAN_KIND.client) return undefined;
  const refusal = RPC_REFUSALS.get(textOf(span.attributes, NAMES.rpcStatus)?.toUpperCase() ?? '');
  const status = refusal === undefined ? countOf(span.attributes, NAMES.httpStatus) : undefined;
  if (refusal === undefined && (status === undefined || status < 400)) return undefined;
  const from = peerOf(span);
  const said = `${refusal ?? status} from ${from ?? 'an unnamed service'}`;
  const told = refusal === undefined ? undefined : withoutStatus(message);
  return {
    // What HTTP clients say of an answer holds its status.
    reason: refusal === undefined ? (message ?? said) : told === undefined ? said : `${said}: ${told}`,
    ...(from === undefined ? {} : { from }),
    isRefusal: refusal !== undefined || status === 401 || status === 403,
    status: refusal ?? String(status),
    protocol: refusal === undefined ? 'http' : 'rpc',
    asked: (refusal === undefined ? textOf(span.attributes, NAMES.httpMethod) : rpcNames(span).method) ?? span.name,
  };
}

/** `7 PERMISSION_DENIED: role nurse …` and the like of other languages, without the status; undefined when nothing is left. */
export function withoutStatus(message: string | undefined): string | undefined {
  const text = message
    ?.replace(/^rpc error: code = \w+ desc = /, '')
    .replace(/^(?:\d+ )?(?:StatusCode\.)?[A-Z]+(?:_[A-Z]+)*(?:: ?|$)/, '')
    .trim();
  return text === '' ? undefined : text;
}
