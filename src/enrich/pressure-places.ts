import type { Resource } from '../core/evidence.ts';
import type { AuditRecord } from '../core/record.ts';
import { textOf } from './identity.ts';

/** The resource attributes that tell where a metric was measured. */
export const PLACE_KEYS: readonly string[] = [
  'service.name',
  'service.namespace',
  'service.instance.id',
  'host.name',
  'container.id',
  'k8s.namespace.name',
  'k8s.pod.name',
  'k8s.container.name',
];

/** Longest name of a place that metrics are kept for: rings are bounded in number, so that what each holds must be, too. */
const NAME_CHARS_MAX = 256;

/** Where something ran or was measured, as far as it is told. */
export interface MeasuredPlace {
  readonly namespace: string;
  readonly service?: string | undefined;
  readonly serviceNamespace?: string | undefined;
  readonly instance?: string | undefined;
  readonly container?: string | undefined;
  readonly pods?: string | undefined;
  readonly pod?: string | undefined;
  readonly host?: string | undefined;
  readonly containerName?: string | undefined;
}

/** Undefined for a resource that names no place, or one with names beyond all measure. */
export function placeOfResource(namespace: string, { attributes }: Resource): MeasuredPlace | undefined {
  const text = (key: string) => textOf(attributes.get(key)) || undefined;
  const place: MeasuredPlace = {
    namespace,
    service: text('service.name'),
    serviceNamespace: text('service.namespace'),
    instance: text('service.instance.id'),
    container: text('container.id'),
    pods: text('k8s.namespace.name'),
    pod: text('k8s.pod.name'),
    host: text('host.name'),
    containerName: text('k8s.container.name'),
  };
  const names = [place.service, place.container, place.pod, place.host];
  if (names.every((name) => name === undefined)) return undefined;
  return Object.values(place).some((name) => name !== undefined && name.length > NAME_CHARS_MAX) ? undefined : place;
}

export function placeOfRecord(record: AuditRecord): MeasuredPlace {
  const { service, host, container, orchestrator } = record;
  return {
    namespace: record.data_stream.namespace,
    service: service?.name,
    serviceNamespace: service?.namespace,
    instance: service?.node?.name,
    container: container?.id,
    pods: orchestrator?.namespace,
    pod: orchestrator?.resource?.name,
    host: host?.name,
  };
}

/** The same for equal places. */
export function keyOfPlace(place: MeasuredPlace): string {
  const { namespace, service, serviceNamespace, instance, container, pods, pod, host, containerName } = place;
  return [namespace, service, serviceNamespace, instance, container, pods, pod, host, containerName].join('\0');
}

/** Under what a place is found: everything that may be the same place shares one of these. */
export function linksOf({ namespace, service, container, pod, host }: MeasuredPlace): string[] {
  const links: string[] = [];
  if (service !== undefined) links.push(`s\0${namespace}\0${service}`);
  if (container !== undefined) links.push(`c\0${namespace}\0${container}`);
  if (pod !== undefined) links.push(`p\0${namespace}\0${pod}`);
  if (host !== undefined) links.push(`h\0${namespace}\0${host}`);
  return links;
}

type Name = string | undefined;

/** Both tell it, and not the same. */
function differ(left: Name, right: Name): boolean {
  return left !== undefined && right !== undefined && left !== right;
}

function same(left: Name, right: Name): boolean {
  return left !== undefined && left === right;
}

/**
 * Was this measured where that ran? What tells most decides: the container, then the pod, then the service (with its instance and
 * its host), then the host for what was measured on the host as a whole. What was measured of one service is never another's.
 */
export function isAt(measured: MeasuredPlace, ran: MeasuredPlace): boolean {
  if (measured.namespace !== ran.namespace) return false;
  if (differ(measured.service, ran.service) || differ(measured.serviceNamespace, ran.serviceNamespace)) return false;
  if (differ(measured.instance, ran.instance)) return false;
  if (differ(measured.container, ran.container)) return false;
  if (same(measured.container, ran.container)) return true;
  if (differ(measured.pod, ran.pod) || (measured.pod !== undefined && differ(measured.pods, ran.pods))) return false;
  if (same(measured.pod, ran.pod)) return true;
  if (same(measured.service, ran.service)) {
    return same(measured.instance, ran.instance) || !differ(measured.host, ran.host);
  }
  const isOfHost = measured.service === undefined && measured.container === undefined && measured.pod === undefined;
  return isOfHost && same(measured.host, ran.host);
}

/** Short enough to say what a metric was measured on. */
export function nameOfPlace({ service, containerName, pod, container, host }: MeasuredPlace): string {
  return (
    service ??
    (containerName !== undefined && pod !== undefined ? `${pod}/${containerName}` : undefined) ??
    pod ??
    container ??
    host ??
    ''
  );
}
