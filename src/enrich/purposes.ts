import type { LogRecord, Span } from '../core/evidence.ts';
import type { Finding } from './findings.ts';
import { NONE, type TraceTree } from './trace-tree.ts';

/**
 * What each access is for: what its own evidence says, else the nearest span above it that says something, else the first one below:
 * a gateway passes on what only the service behind it captures. Senders without trust say nothing.
 */
export function gatherPurposes(
  { spans, parent }: TraceTree,
  purposeOf: (piece: Span | LogRecord) => string | undefined,
): (finding: Finding) => string | undefined {
  const told: (string | undefined)[] = [];
  for (let index = 0; index < spans.length; index += 1) {
    const own = purposeOf(spans[index] as Span);
    if (own !== undefined) told[index] = own;
  }
  const isAny = told.length > 0;
  const below = isAny ? [...told] : [];
  for (let index = below.length - 1; index >= 0; index -= 1) {
    const above = parent[index] ?? NONE;
    // The last one written is the first in the order of the tree.
    if (above !== NONE && below[index] !== undefined && told[above] === undefined) below[above] = below[index];
  }
  if (isAny) {
    spans.forEach((_, index) => {
      told[index] ??= told[parent[index] ?? NONE];
    });
  }
  return ({ access, index, trusted }) => {
    if (!trusted) return undefined;
    const own = access.purpose ?? (access.source === 'event' ? purposeOf(access.from) : undefined);
    return own ?? told[index] ?? below[index];
  };
}
