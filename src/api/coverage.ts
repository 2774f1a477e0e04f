import type { FastifyInstance } from 'fastify';
import type { Clock } from '../core/clock.ts';
import { nsToMs } from '../core/clock.ts';
import type { CoverageAnswer, CoverageQuestion, CoverageSummary } from '../core/coverage.ts';
import type { Query } from '../query/ast.ts';
import type { Selection } from '../store/port.ts';
import { coverageQuery } from './contract.ts';
import { checkParameters, toRange } from './selection.ts';

/** Who knows what was seen and what must be missing. */
export interface CoverageSource {
  answer(question: CoverageQuestion): CoverageAnswer;
  summary(question: CoverageQuestion): CoverageSummary;
}

export function addCoverageRoute(
  server: FastifyInstance,
  { coverage, clock }: { readonly coverage: CoverageSource; readonly clock: Clock },
): void {
  server.get('/api/v1/coverage', async (request): Promise<CoverageAnswer> => {
    const { from, to, service, namespace } = checkParameters(coverageQuery, request.query);
    return coverage.answer({
      ...toMillis(toRange({ from, to }, clock.nowMs())),
      ...(service === undefined ? {} : { services: [service] }),
      ...(namespace === undefined ? {} : { namespace }),
    });
  });
}

function toMillis({ fromNs, toNs }: Pick<Selection, 'fromNs' | 'toNs'>): CoverageQuestion {
  return {
    ...(fromNs === undefined ? {} : { fromMs: nsToMs(fromNs) }),
    ...(toNs === undefined ? {} : { toMs: nsToMs(toNs) }),
  };
}

/** What to ask of coverage about the records of a selection. */
export function toCoverageQuestion(selection: Selection): CoverageQuestion {
  const services = servicesOf(selection.query);
  const { namespace } = selection;
  return {
    ...toMillis(selection),
    ...(namespace === undefined ? {} : { namespace }),
    ...(services === undefined ? {} : { services: [...services] }),
  };
}

/** The services that a record can be of to fit the query; undefined when it may be any. */
function servicesOf(query: Query): readonly string[] | undefined {
  switch (query.kind) {
    case 'equals':
      return query.field.name === 'service.name' ? [String(query.value)] : undefined;
    case 'and': {
      const known = query.parts.map(servicesOf).filter((part) => part !== undefined);
      return known.length === 0 ? undefined : known.reduce((all, part) => all.filter((name) => part.includes(name)));
    }
    case 'or': {
      const known = query.parts.map(servicesOf).filter((part) => part !== undefined);
      return known.length === query.parts.length ? known.flat() : undefined;
    }
    default:
      return undefined;
  }
}
