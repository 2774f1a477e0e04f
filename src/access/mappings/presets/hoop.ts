import type { Fields, Mapping, Source } from '../mapping.ts';

/** What hoop.dev calls databases in `connection_subtype` or `protocol`, in the names of the conventions. */
const SYSTEMS = {
  ...{ 'postgres*': 'postgresql', 'mysql*': 'mysql', 'mssql*': 'microsoft.sql_server', 'mongo*': 'mongodb' },
  ...{ 'oracle*': 'oracle.db', 'redis*': 'redis', 'dynamodb*': 'aws.dynamodb', 'cassandra*': 'cassandra' },
};

/** The shared parts of what is about a connection that someone used. */
function connection(name: Source): Fields {
  return {
    'audit.target.type': 'connection',
    'audit.target.id': name,
    'audit.target.name': name,
    'audit.target.service': 'hoop.dev',
    'event.category': 'session',
  };
}

/** Exit codes of a session: -100 stands for one that is not known. */
const BY_EXIT: Source = [
  { from: '${exit_code}', map: { 0: 'success', '-100': 'unknown', '*': 'failure' } },
  { from: '${event_session_close.exit_code}', map: { 0: 'success', '-100': 'unknown', '*': 'failure' } },
];

const REVIEW: Fields = {
  'audit.check.permission': { from: 'session.open', when: { 'review.status': '*' } },
  'audit.check.granted': {
    from: '${review.status}',
    map: { APPROVED: 'true', PROCESSING: 'true', EXECUTED: 'true', REJECTED: 'false', REVOKED: 'false' },
  },
  'audit.check.rule': 'review ${review.type}',
  'audit.check.engine': 'hoop',
};

/** Webhooks of sessions: the schemas of the gateway's events `session.open` and `session.close`. */
const WEBHOOKS: readonly Mapping[] = [
  {
    name: 'hoop',
    preset: 'hoop',
    untraced: REVIEW,
    when: { event_type: 'session.open', connection: '*' },
    fields: {
      ...connection('${connection}'),
      'event.id': '${id}/open',
      'event.action': ['session.open ${verb}', 'session.open'],
      'event.type': ['start'],
      'event.outcome': {
        from: ['${review.status}', 'none'],
        map: { REJECTED: 'failure', REVOKED: 'failure', PENDING: 'unknown', '*': 'success' },
      },
      'audit.decision': {
        from: '${review.status}',
        map: { REJECTED: 'deny', REVOKED: 'deny', PENDING: 'none', '*': 'allow' },
      },
      'event.reason': 'review ${review.type} ${review.status}',
      'user.id': ['${user_id}', '${user_email}', '${review.owner_email}'],
      'user.name': ['${user_name}', '${user_email}', '${review.owner_email}'],
      'user.email': ['${user_email}', '${review.owner_email}'],
      'db.system.name': [
        { from: '${connection_subtype}', map: SYSTEMS },
        { from: 'other_sql', when: { connection_type: ['database', '*sql*', 'postgres'] } },
      ],
      'db.query.text': {
        from: '${input}',
        when: { connection_type: ['database', '*sql*', 'postgres'] },
        decode: 'base64',
      },
    },
  },
  {
    name: 'hoop.close',
    preset: 'hoop',
    when: { event_type: 'session.close', id: '*' },
    fields: {
      ...connection('session ${id}'),
      'audit.target.type': 'session',
      'audit.target.id': '${id}',
      'audit.target.name': 'session ${id}',
      'event.id': '${id}/close',
      'event.action': 'session.close',
      'event.type': 'end',
      'event.outcome': BY_EXIT,
      'event.reason': '${exit_err}',
      'error.message': '${exit_err}',
    },
  },
];

/** What its runbook hooks are given (`HOOP_RUNBOOK_HOOK_PAYLOAD`). */
const HOOKS: readonly Mapping[] = [
  {
    name: 'hoop.hook-close',
    preset: 'hoop',
    when: { sid: '*', 'event_session_close.exit_code': '*' },
    fields: {
      ...connection(['${event_session_open.connection_name}', 'session ${sid}']),
      'event.id': '${sid}/close',
      'event.action': 'session.close',
      'event.type': 'end',
      'event.outcome': BY_EXIT,
      'user.id': '${event_session_open.user_email}',
      'user.name': '${event_session_open.user_email}',
      'user.email': '${event_session_open.user_email}',
    },
  },
  {
    name: 'hoop.hook-open',
    preset: 'hoop',
    when: { sid: '*', 'event_session_open.connection_name': '*' },
    fields: {
      ...connection('${event_session_open.connection_name}'),
      'event.id': '${sid}/open',
      'event.action': ['session.open ${event_session_open.verb}', 'session.open'],
      'event.type': 'start',
      'event.outcome': 'success',
      'user.id': '${event_session_open.user_email}',
      'user.name': '${event_session_open.user_email}',
      'user.email': '${event_session_open.user_email}',
      'db.system.name': { from: '${event_session_open.connection_subtype}', map: SYSTEMS },
      'db.query.text': {
        from: '${event_session_open.input}',
        when: { 'event_session_open.connection_type': 'database' },
      },
    },
  },
];

/** The gateway's own audit log (who changed what in it), its sessions as the API has them, and the events that it routes. */
const GATEWAY: readonly Mapping[] = [
  {
    name: 'hoop.audit',
    preset: 'hoop',
    when: { actor_subject: '*', resource_type: '*', action: '*' },
    fields: {
      'event.id': '${id}',
      '@timestamp': '${created_at}',
      'event.action': '${action}',
      'event.category': {
        from: '${resource_type}',
        map: {
          'user*': 'iam',
          service_accounts: 'iam',
          'machine_*': 'iam',
          '*keys': 'iam',
          'auth*': 'iam',
          '*': 'configuration',
        },
      },
      'event.type': {
        from: '${action}',
        map: { create: 'creation', update: 'change', delete: 'deletion', revoke: 'deletion', '*': 'change' },
      },
      'event.outcome': { from: '${outcome}', map: { true: 'success', false: 'failure' } },
      'audit.decision': { from: '${http_status}', map: { 401: 'deny', 403: 'deny' } },
      'event.reason': '${error_message}',
      'error.message': '${error_message}',
      'user.id': '${actor_subject}',
      'user.name': ['${actor_name}', '${actor_email}'],
      'user.email': '${actor_email}',
      'source.ip': '${client_ip}',
      'http.request.method': '${http_method}',
      'http.response.status_code': '${http_status}',
      'url.path': '${http_path}',
      'audit.target.type': '${resource_type}',
      'audit.target.id': [
        '${resource_type}/${request_payload_redacted.name}',
        '${resource_type}/${resource_id}',
        '${http_path}',
        '${resource_type}',
      ],
      'audit.target.service': 'hoop.dev',
    },
  },
  {
    name: 'hoop.session',
    preset: 'hoop',
    untraced: REVIEW,
    when: { start_date: '*', connection: '*', verb: ['connect', 'exec'], user_id: '*' },
    fields: {
      ...connection('${connection}'),
      'event.id': '${id}',
      'event.start': '${start_date}',
      'event.end': '${end_date}',
      'event.action': '${verb}',
      'event.type': 'access',
      'event.outcome': [{ from: 'failure', when: { 'guardrails_info.rule_name': '*' } }, BY_EXIT],
      'audit.decision': [
        { from: 'deny', when: { 'guardrails_info.rule_name': '*' } },
        { from: '${review.status}', map: { REJECTED: 'deny', REVOKED: 'deny', APPROVED: 'allow', EXECUTED: 'allow' } },
      ],
      'rule.name': '${guardrails_info.rule_name}',
      'user.id': ['${user_id}', '${user}'],
      'user.name': ['${user_name}', '${user}'],
      'user.email': '${user}',
      'audit.actor.type': { from: '${identity_type}', map: { machine: 'service', user: 'user' } },
      'db.system.name': { from: '${connection_subtype}', map: SYSTEMS },
      'db.query.text': { from: '${script.data}', when: { type: 'database' } },
    },
  },
  {
    name: 'hoop.event',
    preset: 'hoop',
    when: { session_id: '*', connection: '*', occurred_at: '*' },
    fields: {
      ...connection('${connection}'),
      'event.id': [
        '${event_id}',
        '${session_id}/${event_type}/${occurred_at}',
        '${session_id}/${review_id}',
        '${session_id}/${rule}',
        '${session_id}/${occurred_at}',
      ],
      '@timestamp': '${occurred_at}',
      'event.action': [
        '${event_type}',
        '${type}',
        '${event}',
        { from: 'session.guardrail_violation', when: { rule: '*' } },
        { from: 'session.closed', when: { exit_code: '*' } },
        { from: 'session.started', when: { verb: '*' } },
        { from: 'access.jit_denied', when: { reviewer: '*', reason: '*' } },
        { from: 'access.jit_approved', when: { reviewer: '*' } },
        'session.event',
      ],
      'event.type': [{ from: 'end', when: { exit_code: '*' } }, { from: 'start', when: { verb: '*' } }, 'info'],
      'event.outcome': [
        BY_EXIT,
        { from: 'failure', when: { rule: '*' } },
        { from: 'failure', when: { reviewer: '*', reason: '*' } },
        'success',
      ],
      'audit.decision': [
        { from: 'deny', when: { rule: '*' } },
        { from: 'deny', when: { reviewer: '*', reason: '*' } },
        { from: 'allow', when: { reviewer: '*' } },
      ],
      'event.reason': ['${reason}', 'guardrail ${rule}'],
      'rule.name': '${rule}',
      'event.duration': { from: '${duration_ms}', unit: 'ms' },
      'user.id': '${user}',
      'user.name': '${user}',
      'user.email': '${user}',
    },
  },
  // The inspector that hoop.dev puts before databases and services, one line for each statement.
  {
    name: 'hoop.statement',
    preset: 'hoop',
    when: { kind: ['statement', 'session_start', 'session_end', 'masked', 'error'], session_id: '*', principal: '*' },
    fields: {
      '@timestamp': '${timestamp}',
      'event.action': ['${http.method}', '${operation}', '${kind}'],
      'event.outcome': [
        { from: 'failure', when: { error: '*' } },
        { from: '${allowed}', when: { kind: 'statement' }, map: { true: 'success', false: 'failure' } },
        'success',
      ],
      'audit.decision': { from: '${allowed}', when: { kind: 'statement' }, map: { true: 'allow', false: 'deny' } },
      'event.reason': ['${message}', '${error}', 'rule ${rule}'],
      'rule.id': '${rule}',
      'event.duration': '${duration_ns}',
      'user.id': '${principal}',
      'user.name': '${principal}',
      'db.system.name': { from: '${protocol}', map: SYSTEMS },
      'db.query.text': { from: '${statement}', when: { protocol: ['!http*'] } },
      'db.collection.name': '${tables}',
      'http.request.method': '${http.method}',
      'http.response.status_code': '${http.status_code}',
      'url.path': '${http.path}',
      'audit.target.type': [
        { from: 'table', when: { tables: '*' } },
        { from: 'endpoint', when: { 'http.path': '*' } },
        'connection',
      ],
      'audit.target.id': [
        '${connection}/${tables}',
        '${connection}${http.path}',
        '${connection}',
        'session ${session_id}',
      ],
      'audit.target.service': '${connection}',
      'error.message': '${error}',
    },
  },
];

/** What its events are about. */
const TOPICS = [
  'session.*',
  'access.*',
  'alert.*',
  'review.*',
  'dbroles.*',
  'connection.*',
  'resource.*',
  'user.*',
  'agent.*',
];

/** Events of later versions, for those who say that it is hoop.dev. */
const OTHERS: readonly Mapping[] = ['event_type', 'type', 'event'].map((name) => ({
  name: `hoop.named-${name}`,
  preset: 'hoop',
  when: { 'spantrail.preset': 'hoop', [name]: TOPICS },
  fields: {
    'event.id': ['${event_id}', `\${id}/\${${name}}`, `\${session_id}/\${${name}}`],
    '@timestamp': ['${timestamp}', '${occurred_at}', '${created_at}', '${time}'],
    'event.action': `\${${name}}`,
    'event.category': 'session',
    'event.outcome': [
      BY_EXIT,
      { from: '${status}', map: { 'fail*': 'failure', error: 'failure', success: 'success' } },
    ],
    'event.reason': ['${error_message}', '${reason}', '${message}'],
    'user.id': ['${user_id}', '${user_email}', '${user}'],
    'user.name': ['${user_name}', '${user_email}', '${user}'],
    'user.email': '${user_email}',
    'audit.target.type': [{ from: 'connection', when: { connection: '*' } }, 'session'],
    'audit.target.id': ['${connection}', '${session_id}', '${id}', 'hoop.dev'],
    'audit.target.service': 'hoop.dev',
  },
}));

/** hoop.dev, github.com/hoophq/hoop and its documentation: webhooks, runbook hooks, event routing, the gateway's API. */
export const HOOP: readonly Mapping[] = [...WEBHOOKS, ...HOOKS, ...GATEWAY, ...OTHERS];
