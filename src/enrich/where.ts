import { clip } from '../access/attributes.ts';
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
  'net.peer.name',
  'spantrail.tie',
];

/** What a resource says about where something ran; records share it, so nobody may change it. */
export interface Place {
  readonly service?: string;
  /** What tells one machine's clock from another's: the most specific thing the resource names. */
  readonly clock: string;
  readonly sections: Pick<AuditRecord, 'service' | 'host' | 'container' | 'orchestrator'>;
}

const places = new WeakMap<Resource, Place>();

/** The resource that was asked for last, and its place: spans of one service come one after the other. */
let last: { readonly resource: Resource; readonly place: Place } | undefined;

/** Thousands of spans share a resource, so that it is read once. */
export function placeOf(resource: Resource): Place {
  if (last !== undefined && last.resource === resource) return last.place;
  let place = places.get(resource);
  if (place === undefined) {
    place = readPlace(resource);
    places.set(resource, place);
  }
  last = { resource, place };
  return place;
}

export function serviceName(resource: Resource): string | undefined {
  return placeOf(resource).service;
}

function readPlace(resource: Resource): Place {
  const text = (key: string): string | undefined => clip(textOf(resource.attributes.get(key))) || undefined;
  const named = (key: string): { name: string } | undefined => {
    const name = text(key);
    return name === undefined ? undefined : { name };
  };
  const sections: { -readonly [Key in keyof Place['sections']]: Place['sections'][Key] } = {};
  const [name, namespace, version, node] = [
    text('service.name'),
    text('service.namespace'),
    text('service.version'),
    named('service.instance.id'),
  ];
  if (name !== undefined) {
    sections.service = { name, ...(namespace && { namespace }), ...(version && { version }), ...(node && { node }) };
  }
  const [host, container, cluster] = [named('host.name'), text('container.id'), named('k8s.cluster.name')];
  if (host) sections.host = host;
  if (container) sections.container = { id: container };
  const [pods, pod] = [text('k8s.namespace.name'), named('k8s.pod.name')];
  if (cluster || pods || pod) {
    sections.orchestrator = {
      ...(cluster && { cluster }),
      ...(pods && { namespace: pods }),
      ...(pod && { resource: pod }),
    };
  }
  const owner = ['host.name', 'k8s.pod.name', 'container.id', 'service.instance.id', 'service.name'].find(text);
  return { ...(name && { service: name }), clock: owner === undefined ? '' : `${owner} ${text(owner)}`, sections };
}
