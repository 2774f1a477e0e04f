import { NAMES } from '../attributes.ts';

/**
 * The names that a mapping may give values to: those that events state, in the record's names or those of the conventions. A
 * misspelt one would be lost without a word.
 */
const READ_FROM_EVENTS = [
  ...['serviceName', 'httpMethod', 'httpStatus', 'httpRequestBytes', 'httpResponseBytes', 'httpRoute', 'urlPath'],
  ...['urlQuery', 'urlScheme', 'serverAddress', 'clientAddress', 'clientPort', 'userAgent', 'dbSystem'],
  ...['dbNamespace', 'dbCollection', 'dbOperation', 'dbStatement', 'dbStatus', 'dbUser', 'filePath', 'toolName'],
  ...['errorType', 'errorMessage', 'userId', 'userPseudoId', 'userName', 'userEmail'],
  ...['userRoles', 'userGroup', 'userDomain', 'effectiveId', 'effectiveName', 'eventName', 'eventId', 'eventAction'],
  ...['eventOutcome', 'eventReason', 'eventCategory', 'eventType', 'eventKind', 'eventDuration', 'ruleId', 'ruleName'],
  ...['sourceIp', 'sourcePort'],
] as const satisfies readonly (keyof typeof NAMES)[];

export const EVENT_FIELDS: readonly string[] = [
  ...READ_FROM_EVENTS.flatMap((key): readonly string[] => NAMES[key]),
  ...['@timestamp', 'event.start', 'event.end', 'url.domain'],
  ...[
    'audit.action',
    'audit.decision',
    'audit.purpose',
    'audit.rows',
    'audit.out_of_band',
    'audit.actor.type',
    'audit.actor.relation',
  ],
  ...['audit.target.type', 'audit.target.id', 'audit.target.name', 'audit.target.service'],
  ...['audit.change.before', 'audit.change.after', 'audit.checks'],
  ...['permission', 'target', 'granted', 'rule', 'duration', 'engine', 'span_id'].map((part) => `audit.check.${part}`),
  ...['service.namespace', 'service.version', 'service.node.name', 'host.name', 'container.id'],
  ...['orchestrator.cluster.name', 'orchestrator.namespace', 'orchestrator.resource.name'],
];

const KNOWN = new Set(EVENT_FIELDS);

export function isEventField(name: string): boolean {
  return KNOWN.has(name);
}

/** The known name that is the fewest letters away. */
export function nearestField(name: string): string {
  let nearest = '';
  let least = Number.POSITIVE_INFINITY;
  for (const field of EVENT_FIELDS) {
    const distance = editDistance(name, field);
    if (distance < least) [nearest, least] = [field, distance];
  }
  return nearest;
}

/** Letters to add, take away or change (Levenshtein). */
function editDistance(left: string, right: string): number {
  let row = Array.from({ length: right.length + 1 }, (_, index) => index);
  for (let at = 1; at <= left.length; at++) {
    const above = row;
    row = [at];
    for (let index = 1; index <= right.length; index++) {
      const replaced = (above[index - 1] ?? 0) + Number(left[at - 1] !== right[index - 1]);
      row.push(Math.min((above[index] ?? 0) + 1, (row[index - 1] ?? 0) + 1, replaced));
    }
  }
  return row[right.length] ?? 0;
}
