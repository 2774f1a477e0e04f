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

export type WhereSections = Pick<AuditRecord, 'service' | 'host' | 'container' | 'orchestrator'>;

/** The resource attribute as text; undefined when it is absent or empty. */
export function resourceText(resource: Resource, key: string): string | undefined {
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
  const name = serviceName(resource);
  const namespace = resourceText(resource, 'service.namespace');
  const version = resourceText(resource, 'service.version');
  const node = resourceText(resource, 'service.instance.id');
  const host = resourceText(resource, 'host.name');
  const container = resourceText(resource, 'container.id');
  const cluster = resourceText(resource, 'k8s.cluster.name');
  const clusterNamespace = resourceText(resource, 'k8s.namespace.name');
  const pod = resourceText(resource, 'k8s.pod.name');
  return {
    ...(name && {
      service: {
        name,
        ...(namespace && { namespace }),
        ...(version && { version }),
        ...(node && { node: { name: node } }),
      },
    }),
    ...(host && { host: { name: host } }),
    ...(container && { container: { id: container } }),
    ...((cluster ?? clusterNamespace ?? pod) && {
      orchestrator: {
        ...(cluster && { cluster: { name: cluster } }),
        ...(clusterNamespace && { namespace: clusterNamespace }),
        ...(pod && { resource: { name: pod } }),
      },
    }),
  };
}
