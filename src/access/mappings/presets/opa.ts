import type { Fields, Mapping, Source } from '../mapping.ts';

/** Where policies' inputs name who asks; the shapes of OPA's own tutorials, its Envoy plugin and admission reviews come first. */
const SUBJECT = [
  '${input.request.userInfo.username}',
  '${input.user.id}',
  '${input.user.username}',
  '${input.user.name}',
  '${input.user.email}',
  '${input.user}',
  '${input.subject.id}',
  '${input.subject.user}',
  '${input.subject.name}',
  '${input.subject}',
  '${input.principal.id}',
  '${input.principal.name}',
  '${input.principal}',
  '${input.identity.id}',
  '${input.identity.name}',
  '${input.identity}',
  '${input.username}',
  '${input.user_id}',
  '${input.userId}',
  '${input.claims.sub}',
  '${input.token.payload.sub}',
  '${input.jwt.sub}',
  '${input.attributes.metadataContext.filterMetadata.envoy.filters.http.jwt_authn.verified_jwt.sub}',
  '${input.attributes.request.http.headers.x-forwarded-user}',
  '${input.parsed_token.payload.sub}',
  '${input.attributes.source.principal}',
];

const ACTION = [
  '${input.request.operation}',
  '${input.action.name}',
  '${input.action.operation}',
  '${input.action.id}',
  '${input.action}',
  '${input.operation}',
  '${input.permission}',
  '${input.verb}',
  '${input.method}',
  '${input.request.method}',
  '${input.request.http.method}',
  '${input.http.method}',
  '${input.attributes.request.http.method}',
];

const TARGET = [
  '${input.request.resource.resource}/${input.request.namespace}/${input.request.name}',
  '${input.request.resource.resource}/${input.request.name}',
  '${input.request.kind.kind}/${input.request.namespace}/${input.request.name}',
  '${input.action.resource.catalogName}.${input.action.resource.schemaName}.${input.action.resource.tableName}',
  '${input.resource.type}/${input.resource.id}',
  '${input.resource.kind}/${input.resource.name}',
  '${input.resource.type}/${input.resource.name}',
  '${input.resource.id}',
  '${input.resource.name}',
  '${input.resource}',
  '${input.object.type}/${input.object.id}',
  '${input.object.id}',
  '${input.object.name}',
  '${input.object}',
  '${input.target.id}',
  '${input.target}',
  '${input.asset}',
  '${input.topic.name}',
  '${input.attributes.request.http.path}',
  '${input.request.path}',
  '${input.request.http.path}',
  '${input.http.path}',
  { from: '${input.path}', join: '/' },
  '${input.uri}',
  '${input.url}',
];

const GRANTED = { true: 'true', false: 'false', allow: 'true', allowed: 'true', deny: 'false', denied: 'false' };
/** What a policy's result may say it by. An admission review has it below `response`. */
const RESULT = [
  '${result.allow}',
  '${result.allowed}',
  '${result.response.allowed}',
  '${result.result.allow}',
  '${result.result.allowed}',
  '${result.granted}',
  '${result.authorized}',
  '${result.permit}',
  '${result.decision}',
  '${result.effect}',
  '${result}',
  '${mapped_result.allow}',
  '${mapped_result}',
];

/** Sorts of a rule by its name: one that says no when it holds, or lists why not. */
const REFUSING = ['*/deny', '*/denied', '*/violation', '*/violations', 'deny', 'violation'];
const GRANTING = ['*/allow', '*/allowed', '*/authz', '*/authorize', '*/authorized', '*/permit', 'allow'];

const FIELDS: Fields = {
  'event.id': '${decision_id}',
  'event.end': '${timestamp}',
  'event.duration': ['${metrics.timer_server_handler_ns}', '${metrics.timer_rego_query_eval_ns}'],
  'event.action': [...ACTION, 'decide'],
  'event.category': 'iam',
  'event.type': 'access',
  'event.reason': [
    '${error.message}',
    { from: '${result.reasons}', join: '; ' },
    '${result.reason}',
    '${result.message}',
    '${result.msg}',
    '${result.response.status.message}',
    '${result.response.status.reason}',
    { from: '${result.deny}', join: '; ' },
    { from: '${result.violations}', join: '; ' },
    '${result.http_status.message}',
    '${result.body}',
    { from: '${result.msg}', join: '; ' },
    { from: '${result}', when: { path: REFUSING }, join: '; ' },
    { from: 'refused by ${path}', when: { result: 'false' } },
    { from: 'refused by ${path}', when: { 'result.allow': 'false' } },
    { from: 'refused by ${path}', when: { 'result.allowed': 'false' } },
  ],
  'rule.id': ['${path}', '${query}'],
  'rule.name': ['${path}', '${query}'],
  'user.id': SUBJECT,
  'user.name': ['${input.user.name}', '${input.subject.name}', ...SUBJECT],
  'user.email': ['${input.user.email}', '${input.subject.email}', '${input.email}'],
  'user.roles': [
    '${input.user.roles}',
    '${input.subject.roles}',
    '${input.principal.roles}',
    '${input.roles}',
    '${input.role}',
    '${input.groups}',
    '${input.identity.groups}',
    '${input.request.userInfo.groups}',
    '${input.context.identity.groups}',
    '${input.subject.groups}',
  ],
  'source.ip': [
    '${input.attributes.source.address.socketAddress.address}',
    '${input.source_ip}',
    '${input.sourceIp}',
    '${input.client_ip}',
    '${input.clientIp}',
    '${input.remote_addr}',
    '${input.ip}',
    '${input.context.ip}',
    '${requested_by}',
  ],
  'user_agent.original': ['${input.attributes.request.http.headers.user-agent}', '${input.user_agent}'],
  'error.type': '${error.code}',
  'error.message': '${error.message}',
  'audit.target.type': [
    '${input.resource.type}',
    '${input.resource.kind}',
    '${input.object.type}',
    '${input.request.resource.resource}',
    { from: 'endpoint', when: { 'input.attributes.request.http.path': '*' } },
    { from: 'endpoint', when: { 'input.path': '*' } },
    { from: 'endpoint', when: { 'input.request.path': '*' } },
    'resource',
  ],
  'audit.target.id': [...TARGET, '${path}', '${query}'],
  'audit.target.service': ['${input.attributes.request.http.host}', '${labels.app}'],
  'audit.purpose': ['${input.purpose}', '${input.purpose_of_use}', '${input.context.purpose}'],
  'audit.check.permission': ACTION,
  'audit.check.target': TARGET,
  'audit.check.rule': ['${path}', '${query}'],
  'audit.check.duration': ['${metrics.timer_server_handler_ns}', '${metrics.timer_rego_query_eval_ns}'],
  'audit.check.engine': 'opa',
  'audit.check.span_id': '${span_id}',
};

function decided(name: string, when: Mapping['when'], decision: Fields): Mapping {
  return { name, preset: 'opa', when: { decision_id: '*', ...when }, fields: { ...FIELDS, ...decision } };
}

const DENIED: Fields = { 'event.outcome': 'failure', 'audit.decision': 'deny', 'audit.check.granted': 'false' };
const ALLOWED: Fields = { 'event.outcome': 'success', 'audit.decision': 'allow', 'audit.check.granted': 'true' };

/** Open Policy Agent's decision logs: openpolicyagent.org, "Decision Logs"; its Envoy plugin; its Kubernetes admission control. */
export const OPA: readonly Mapping[] = [
  decided('opa.error', { 'error.message': '*' }, { 'event.outcome': 'failure' }),
  decided('opa.refusals', { path: REFUSING, result: ['*', '!false'] }, DENIED),
  decided('opa.no-refusals', { path: REFUSING }, ALLOWED),
  // A rule without a default is undefined where it does not hold, and then the log has no result: nobody was allowed anything.
  decided(
    'opa.undefined',
    { path: GRANTING, result: '!*' },
    { ...DENIED, 'event.reason': 'the policy has no decision for this input' },
  ),
  decided(
    'opa',
    {},
    {
      'event.outcome': [
        { from: RESULT, map: outcomes({ true: 'success', false: 'failure' }) },
        ...unless('failure', 'success'),
      ],
      'audit.decision': [{ from: RESULT, map: outcomes({ true: 'allow', false: 'deny' }) }, ...unless('deny', 'allow')],
      'audit.check.granted': [{ from: RESULT, map: GRANTED }, ...unless('false', 'true')],
    },
  ),
];

/** A result that lists only what speaks against it. */
function unless(refused: string, granted: string): Source[] {
  const names = ['result.deny', 'result.denied', 'result.violations', 'result.violation'];
  return [
    ...names.map((name) => ({ from: refused, when: { [name]: ['*', '!false'] } })),
    ...names.slice(0, 2).map((name) => ({ from: granted, when: { [name]: 'false' } })),
  ];
}

function outcomes(meaning: Readonly<Record<'true' | 'false', string>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(GRANTED).map(([said, granted]) => [said, meaning[granted as 'true' | 'false']]),
  );
}
