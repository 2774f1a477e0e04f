import type { IncomingHttpHeaders } from 'node:http';
import { NAMESPACE_HEADER } from './admission.ts';

/** What pages may send: the headers that OTLP exporters in browsers set, and ours. */
const ALLOWED_HEADERS = `content-type, content-encoding, authorization, traceparent, tracestate, baggage, ${NAMESPACE_HEADER}`;

/** Longest that browsers keep a preflight's answer (Chromium's cap). */
const PREFLIGHT_SECONDS = 7200;

export type OriginCheck = (origin: string) => boolean;

/** Compiles origins such as `https://shop.example`, `https://*.example` or `*`, where `*` stands for any text. */
export function compileOrigins(patterns: readonly string[]): OriginCheck {
  const expressions = patterns.map((pattern) => {
    const literals = pattern.split('*').map((literal) => literal.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
    return new RegExp(`^${literals.join('.*')}$`, 'i');
  });
  return (origin) => expressions.some((expression) => expression.test(origin));
}

/**
 * Headers that let the page read the answer; none for origins that are not allowed, which leaves the decision to the browser
 * as the Fetch standard has it. `Vary` always, because the answer depends on the origin.
 */
export function corsHeaders(headers: IncomingHttpHeaders, allowed: OriginCheck): Record<string, string> {
  const { origin } = headers;
  if (origin === undefined) return {};
  if (!allowed(origin)) return { vary: 'origin' };
  return { vary: 'origin', 'access-control-allow-origin': origin, 'access-control-expose-headers': 'retry-after' };
}

export function isPreflight(method: string | undefined, headers: IncomingHttpHeaders): boolean {
  return method === 'OPTIONS' && headers.origin !== undefined && 'access-control-request-method' in headers;
}

export const PREFLIGHT_HEADERS: Readonly<Record<string, string>> = {
  'access-control-allow-methods': 'POST',
  'access-control-allow-headers': ALLOWED_HEADERS,
  'access-control-max-age': String(PREFLIGHT_SECONDS),
};
