import type { Fields, Mapping } from '../mapping.ts';

/** Fields whose names and meaning the record shares with the Elastic Common Schema. */
const SAME = [
  ...['event.id', 'event.action', 'event.outcome', 'event.reason', 'event.category', 'event.type', 'event.kind'],
  ...['event.duration', 'event.start', 'event.end', 'user.id', 'user.name', 'user.email', 'user.roles', 'user.domain'],
  ...['user.group.name', 'user.effective.id', 'rule.id', 'source.port', 'http.request.method'],
  ...['http.response.status_code', 'url.path', 'url.query', 'url.scheme', 'url.domain', 'file.path'],
  ...[
    'user_agent.original',
    'error.type',
    'error.message',
    'service.name',
    'service.version',
    'host.name',
    'container.id',
  ],
  ...['orchestrator.cluster.name', 'orchestrator.namespace', 'orchestrator.resource.name', 'audit.decision'],
  ...['audit.purpose', 'audit.actor.type', 'audit.target.service', 'service.namespace', 'service.node.name'],
];

const FIELDS: Fields = {
  ...Object.fromEntries(SAME.map((name) => [name, `\${${name}}`])),
  '@timestamp': '${@timestamp}',
  // The schema nests users at the ends of a connection, too.
  'user.id': ['${user.id}', '${client.user.id}', '${source.user.id}'],
  'user.name': ['${user.name}', '${client.user.name}', '${source.user.name}'],
  'user.email': ['${user.email}', '${client.user.email}', '${source.user.email}'],
  'audit.decision': [
    '${audit.decision}',
    { from: '${event.type}', map: { denied: 'deny', allowed: 'allow' } },
    { from: '${http.response.status_code}', map: { 401: 'deny', 403: 'deny' } },
  ],
  'event.outcome': ['${event.outcome}', { from: '${event.type}', map: { denied: 'failure' } }],
  'user.effective.name': ['${user.effective.name}', '${user.effective.email}'],
  'url.path': ['${url.path}', '${full_path}'],
  'url.query': ['${url.query}', '${full_query}'],
  'rule.name': ['${rule.name}', '${rule.description}'],
  'source.ip': ['${source.ip}', '${client.ip}', '${source.address}', '${client.address}'],
  'event.reason': ['${event.reason}', { from: '${message}', when: { 'event.outcome': 'failure' } }],
  'db.system.name': ['${db.system.name}', '${db.system}'],
  'db.query.text': ['${db.query.text}', '${db.statement}'],
  'audit.target.type': [
    '${audit.target.type}',
    '${kibana.saved_object.type}',
    { from: 'account', when: { 'user.target.name': '*' } },
    { from: 'account', when: { 'user.target.id': '*' } },
    { from: 'account', when: { 'user.changes.name': '*' } },
    { from: 'group', when: { 'group.name': '*', 'event.category': 'iam' } },
    { from: 'file', when: { 'file.path': '*' } },
    { from: 'process', when: { 'process.executable': '*', 'url.path': '!*' } },
    { from: 'registry', when: { 'registry.path': '*' } },
  ],
  'audit.target.id': [
    '${audit.target.id}',
    '${kibana.saved_object.type}/${kibana.saved_object.id}',
    '${user.target.id}',
    '${user.target.name}',
    '${user.changes.name}',
    { from: '${group.name}', when: { 'event.category': 'iam' } },
    '${file.path}',
    { from: '${process.executable}', when: { 'url.path': '!*' } },
    '${registry.path}',
    { from: '${orchestrator.resource.type}/${orchestrator.namespace}/${orchestrator.resource.name}' },
    { from: '${orchestrator.resource.type}/${orchestrator.resource.name}' },
    { from: '${destination.domain}', when: { 'url.path': '!*' } },
    { from: '${destination.address}', when: { 'url.path': '!*' } },
    { from: '${destination.ip}', when: { 'url.path': '!*' } },
  ],
  'audit.target.name': ['${audit.target.name}', '${user.target.name}', '${file.name}', '${process.name}'],
};

/**
 * Events in the Elastic Common Schema (elastic.co, "ECS field reference", categorization fields), nested or with dots. Without an
 * action and a category it is a log line that happens to be written in ECS.
 */
export const ECS: readonly Mapping[] = [
  { name: 'ecs', when: { 'event.action': '*', 'event.category': '*', '@timestamp': '*' } },
  { name: 'ecs.version', when: { 'event.action': '*', 'ecs.version': '*' } },
  { name: 'ecs.named', when: { 'spantrail.preset': 'ecs', 'event.action': '*' } },
  { name: 'ecs.outcome', when: { 'event.outcome': '*', 'event.category': '*', '@timestamp': '*' } },
].map(({ name, when }) => ({
  name,
  preset: 'ecs',
  when: when as Mapping['when'],
  extract: [
    {
      from: ['${url.original}', '${url.full}'],
      patterns: [String.raw`^(?:[a-z]+://[^/]*)?(?P<full_path>/[^?#]*)(?:\?(?P<full_query>[^#]*))?`],
    },
  ],
  fields: FIELDS,
}));
