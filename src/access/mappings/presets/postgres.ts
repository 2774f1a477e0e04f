import type { Fields, Mapping, Parse } from '../mapping.ts';

/** Values of `log_line_prefix` in use: Debian's, the default, those of pgBadger, Amazon RDS, Azure and pgaudit's manual. */
const PREFIXES = [
  '%m [%p] user=%u db=%d host=%h app=%a session=%c line=%l vxid=%v state=%e ',
  '%m [%p] %q%u@%d ',
  '%m [%p] %u@%d ',
  '%m [%p] ',
  '%t [%p]: [%l-1] user=%u,db=%d,app=%a,client=%h ',
  '%t [%p]: user=%u,db=%d,app=%a,client=%h ',
  '%m [%p]: [%l-1] user=%u,db=%d,app=%a,client=%h ',
  '%m [%p]: user=%u,db=%d,app=%a,client=%h ',
  '%m [%p] %q[user=%u,db=%d,app=%a] ',
  '%t:%r:%u@%d:[%p]:',
  '%t:%r:%u@%d:[%p]:%l:%e:%s:%v:%x:%c:%q%a:',
  '%t-%c-',
  '%m %u %d [%p]: ',
  '%m [%p] %u@%d %a ',
  '%m [%p] %c %l %q%u@%d %r %a ',
  '%m [%p] %q%u@%d/%a ',
];

const PARSE: Parse = { as: 'postgres', prefixes: PREFIXES };

const LOGIN: Fields = { 'user.id': '${user}', 'user.name': '${user}' };

/** What every line of the server tells. The login is not the person: only where no trace tells of one does it stand for the actor. */
const LINE: Fields = {
  'event.id': '${session_id}/${line_num}',
  '@timestamp': '${timestamp}',
  'db.system.name': 'postgresql',
  'db.namespace': '${dbname}',
  'db.user': '${user}',
  'audit.out_of_band': 'true',
  'source.ip': '${remote_host}',
  'source.port': '${remote_port}',
};

const READ = /^(?:public\.)?/.source;

/** Text logs leave the code out unless the prefix asks for it. */
const CODE = [
  '${state_code}',
  { from: '${message}', map: { 'password authentication failed*': '28P01', '*': '28000' } },
];

/** pgaudit, github.com/pgaudit/pgaudit: README, "Format"; PostgreSQL's manual, "Error Reporting and Logging". */
export const PGAUDIT: readonly Mapping[] = [
  {
    name: 'pgaudit',
    preset: 'pgaudit',
    parse: PARSE,
    when: { 'audit.audit_type': ['SESSION', 'OBJECT'] },
    extract: [{ from: '${audit.object_name}', patterns: [`${READ}(?P<table>.+)$`] }],
    fields: {
      ...LINE,
      'db.operation.name': '${audit.command}',
      'db.query.text': '${audit.statement}',
      'db.collection.name': {
        from: '${table}',
        when: { 'audit.object_type': ['TABLE', 'VIEW', 'MATERIALIZED VIEW', 'FOREIGN TABLE', 'TOAST TABLE'] },
      },
      'event.category': {
        from: '${audit.class}',
        map: { ROLE: ['database', 'iam'], DDL: ['database', 'configuration'], '*': 'database' },
      },
      // Who may not do it leaves no such line. Should the statement fail later on, the call that made it says so.
      'event.outcome': 'success',
      'audit.decision': 'allow',
    },
    untraced: LOGIN,
  },
  {
    name: 'pgaudit.refusal',
    preset: 'pgaudit',
    parse: PARSE,
    when: { refusal: 'permission' },
    extract: [
      {
        from: '${message}',
        patterns: [
          String.raw`^permission denied for (?:table|relation|view|materialized view|foreign table) (?:public\.)?(?P<table>\S+)`,
          String.raw`^must be owner of (?:table|relation|view|materialized view) (?:public\.)?(?P<table>\S+)`,
          'row-level security policy .*for table "(?P<table>[^"]+)"',
        ],
      },
    ],
    fields: {
      ...LINE,
      'db.query.text': '${statement}',
      'db.collection.name': '${table}',
      'db.response.status_code': ['${state_code}', '42501'],
      'event.category': 'database',
      'event.outcome': 'failure',
      'audit.decision': 'deny',
      'event.reason': '${message}',
      'error.message': '${message}',
      'error.type': ['${state_code}', '42501'],
    },
    untraced: LOGIN,
  },
  {
    name: 'pgaudit.login',
    preset: 'pgaudit',
    parse: PARSE,
    when: { refusal: 'authentication' },
    extract: [{ from: '${message}', patterns: ['(?:user|role) "(?P<account>[^"]+)"'] }],
    fields: {
      ...LINE,
      'event.action': 'login',
      'event.category': ['authentication'],
      'db.response.status_code': CODE,
      'event.outcome': 'failure',
      'audit.decision': 'deny',
      'event.reason': '${message}',
      'error.message': '${message}',
      'error.type': CODE,
      'user.id': ['${user}', '${account}'],
      'user.name': ['${user}', '${account}'],
      'audit.target.type': 'account',
      'audit.target.id': ['${account}', '${user}'],
      'audit.target.service': ['postgresql/${dbname}', 'postgresql'],
    },
  },
  // Google Cloud SQL hands pgaudit's entries on as audit logs of its own.
  {
    name: 'pgaudit.cloudsql',
    preset: 'pgaudit',
    when: { 'protoPayload.request.auditType': ['SESSION', 'OBJECT'] },
    extract: [{ from: '${protoPayload.request.object}', patterns: [`${READ}(?P<table>.+)$`] }],
    fields: {
      'event.id': '${insertId}',
      '@timestamp': '${timestamp}',
      'db.system.name': 'postgresql',
      'db.namespace': '${protoPayload.request.database}',
      'db.collection.name': '${table}',
      'db.operation.name': '${protoPayload.request.command}',
      'db.query.text': '${protoPayload.request.statement}',
      'db.user': '${protoPayload.request.user}',
      'audit.out_of_band': 'true',
      'event.category': 'database',
      'event.outcome': 'success',
      'audit.decision': 'allow',
    },
    untraced: { 'user.id': '${protoPayload.request.user}', 'user.name': '${protoPayload.request.user}' },
  },
];
