import { compact, section } from '../access/attributes.ts';
import type { Resource } from '../core/evidence.ts';
import type { AuditRecord } from '../core/record.ts';
import { textOf } from './identity.ts';

/** The resource attributes that say where something ran; with the scope they identify a log record's origin. */
export const RESOURCE_KEYS: readonly string[] = [
  'service.name',
  'service.namespace',
  'service.version',
  'service.instance.id',
  'host.name',
  'container.id',
  'k8s.cluster.name',
  'k8s.namespace.name',
  'k8s.pod.name',
];

/** Attribute keys that enrichment reads, besides those that the access rules ask for. */
export const ENRICH_KEYS: readonly string[] = [
  ...RESOURCE_KEYS,
  'exception.type',
  'exception.message',
  'exception.stacktrace',
  'error.type',
];

type WhereSections = Pick<AuditRecord, 'service' | 'host' | 'container' | 'orchestrator'>;

/** The resource attribute as text; undefined when it is absent or empty. */
function resourceText(resource: Resource, key: string): string | undefined {
  return textOf(resource.attributes.get(key)) || undefined;
}

export function serviceName(resource: Resource): string | undefined {
  return resourceText(resource, 'service.name');
}

/** What tells one machine's clock from another's: the most specific thing the resource names. */
export function clockOwner(resource: Resource): string {
  for (const key of ['host.name', 'k8s.pod.name', 'container.id', 'service.instance.id', 'service.name']) {
    const value = resourceText(resource, key);
    if (value !== undefined) return `${key} ${value}`;
  }
  return '';
}

export function whereSections(resource: Resource): WhereSections {
  const text = (key: string): string | undefined => resourceText(resource, key);
  const named = (key: string): { name: string } | undefined => {
    const name = text(key);
    return name === undefined ? undefined : { name };
  };
  const service = named('service.name');
  const container = text('container.id');
  return compact({
    service:
      service &&
      compact({
        ...service,
        namespace: text('service.namespace'),
        version: text('service.version'),
        node: named('service.instance.id'),
      }),
    host: named('host.name'),
    container: container === undefined ? undefined : { id: container },
    orchestrator: section({
      cluster: named('k8s.cluster.name'),
      namespace: text('k8s.namespace.name'),
      resource: named('k8s.pod.name'),
    }),
  });
}
