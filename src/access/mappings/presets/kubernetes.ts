import type { Fields, Mapping } from '../mapping.ts';

const RESOURCE = { 'objectRef.resource': '*' };

/** `pods/shop/orders-7d9f/exec`; names of namespaces and of what is in none stand alone. */
const OBJECT = [
  {
    from: '${objectRef.resource}/${objectRef.namespace}/${objectRef.name}/${objectRef.subresource}',
    when: { 'objectRef.resource': '!namespaces' },
  },
  {
    from: '${objectRef.resource}/${objectRef.namespace}/${objectRef.name}',
    when: { 'objectRef.resource': '!namespaces' },
  },
  '${objectRef.resource}/${objectRef.name}/${objectRef.subresource}',
  '${objectRef.resource}/${objectRef.name}',
  '${objectRef.resource}/${objectRef.namespace}/${objectRef.subresource}',
  '${objectRef.resource}/${objectRef.namespace}',
  '${objectRef.resource}',
];

const FIELDS: Fields = {
  'event.id': '${auditID}',
  'event.start': ['${requestReceivedTimestamp}', '${metadata.creationTimestamp}', '${timestamp}'],
  'event.end': '${stageTimestamp}',
  'event.action': '${verb}',
  'event.type': [
    { from: 'access', when: { 'objectRef.subresource': ['exec', 'attach', 'portforward', 'proxy', 'log'] } },
    {
      from: '${verb}',
      map: {
        get: 'access',
        list: 'access',
        watch: 'access',
        create: 'creation',
        update: 'change',
        patch: 'change',
        delete: 'deletion',
        deletecollection: 'deletion',
      },
    },
    'access',
  ],
  'event.category': [
    { from: 'authentication', when: { 'responseStatus.code': '401' } },
    {
      from: '${objectRef.resource}',
      map: {
        ...{
          roles: 'iam',
          rolebindings: 'iam',
          clusterroles: 'iam',
          clusterrolebindings: 'iam',
          serviceaccounts: 'iam',
        },
        ...{ certificatesigningrequests: 'iam', tokenreviews: 'iam', subjectaccessreviews: 'iam' },
      },
    },
    'api',
  ],
  'event.outcome': [
    {
      from: '${responseStatus.code}',
      map: { '4*': 'failure', '5*': 'failure', '2*': 'success', '1*': 'success', '3*': 'success' },
    },
    { from: '${annotations.authorization.k8s.io/decision}', map: { forbid: 'failure' } },
    { from: '${responseStatus.status}', map: { Success: 'success', Failure: 'failure' } },
    { from: '${stage}', map: { Panic: 'failure' } },
  ],
  'audit.decision': [
    { from: '${annotations.authorization.k8s.io/decision}', map: { forbid: 'deny' } },
    { from: '${responseStatus.code}', map: { '401': 'deny', '403': 'deny' } },
    { from: '${annotations.authorization.k8s.io/decision}', map: { allow: 'allow' } },
  ],
  'event.reason': [
    { from: '${responseStatus.message}', when: { 'responseStatus.code': ['4*', '5*'] } },
    '${annotations.authorization.k8s.io/reason}',
    '${responseStatus.reason}',
  ],
  'rule.name': '${rule}',
  'http.request.method': {
    from: '${verb}',
    when: { 'objectRef.resource': '!*' },
    map: { get: 'GET', head: 'HEAD', post: 'POST', put: 'PUT', patch: 'PATCH', delete: 'DELETE', options: 'OPTIONS' },
  },
  'http.response.status_code': '${responseStatus.code}',
  'url.path': ['${path}', '${requestURI}'],
  'url.query': '${query}',
  'user.id': '${user.username}',
  'user.name': '${user.username}',
  'user.roles': '${user.groups}',
  'user.effective.id': '${impersonatedUser.username}',
  'user.effective.name': '${impersonatedUser.username}',
  'audit.actor.type': {
    from: '${user.username}',
    map: {
      'system:anonymous': 'anonymous',
      'system:*': 'service',
      eks: 'service',
      aksService: 'service',
      masterclient: 'service',
    },
  },
  'source.ip': '${sourceIPs}',
  'user_agent.original': '${userAgent}',
  'error.type': { from: '${responseStatus.reason}', when: { 'responseStatus.code': ['4*', '5*'] } },
  'error.message': { from: '${responseStatus.message}', when: { 'responseStatus.code': ['4*', '5*'] } },
  'orchestrator.namespace': '${objectRef.namespace}',
  'orchestrator.resource.name': '${objectRef.name}',
};

const CHECK: Fields = {
  'audit.check.permission': [
    '${verb} ${objectRef.resource}/${objectRef.subresource}',
    '${verb} ${objectRef.resource}',
    '${verb}',
  ],
  'audit.check.target': [...OBJECT, '${requestURI}'],
  'audit.check.granted': {
    from: '${annotations.authorization.k8s.io/decision}',
    map: { allow: 'true', forbid: 'false' },
  },
  'audit.check.rule': '${rule}',
  'audit.check.engine': 'kubernetes',
};

/**
 * Kubernetes, audit.k8s.io/v1 (kubernetes.io, "Auditing" and the reference of its types). One request writes an event for each
 * stage; the one that ends it says how it came out, the others would only be seen to contradict it.
 */
export const KUBERNETES: readonly Mapping[] = [
  {
    name: 'kubernetes',
    preset: 'kubernetes',
    when: { auditID: '*', verb: '*', stage: ['ResponseComplete', 'Panic'] },
    extract: [
      { from: '${requestURI}', patterns: [String.raw`^(?P<path>[^?]+)(?:\?(?P<query>.*))?$`] },
      {
        from: '${annotations.authorization.k8s.io/reason}',
        patterns: ['^RBAC: allowed by (?P<rule>(?:Cluster)?RoleBinding "[^"]+" of (?:Cluster)?Role "[^"]+")'],
      },
    ],
    fields: {
      ...FIELDS,
      'audit.target.type': [{ from: '${objectRef.resource}', when: RESOURCE }, 'endpoint'],
      'audit.target.id': [...OBJECT, '${path}'],
      'audit.target.service': ['${objectRef.apiGroup}', 'kubernetes'],
    },
    untraced: CHECK,
  },
];
