import type { Attributes } from '../core/evidence.ts';
import type { AccessSections } from './access.ts';
import { compact, NAMES, section, textOf } from './attributes.ts';

type Place = Pick<AccessSections, 'service' | 'host' | 'container' | 'orchestrator'>;

/** Where something ran, as an event states it itself; what its resource says is better, because a Collector may send it on for many. */
export function placeSections(fields: Attributes): Place {
  const named = (key: string): { name: string } | undefined => {
    const name = textOf(fields, [key]);
    return name === undefined ? undefined : { name };
  };
  const name = textOf(fields, NAMES.serviceName);
  const container = textOf(fields, ['container.id']);
  return compact({
    service:
      name === undefined
        ? undefined
        : compact({
            name,
            namespace: textOf(fields, ['service.namespace']),
            version: textOf(fields, ['service.version']),
            node: named('service.node.name'),
          }),
    host: named('host.name'),
    container: container === undefined ? undefined : { id: container },
    orchestrator: section({
      cluster: named('orchestrator.cluster.name'),
      namespace: textOf(fields, ['orchestrator.namespace']),
      resource: named('orchestrator.resource.name'),
    }),
  });
}
