import { describe, expect, it } from 'vitest';
import { recogniseSpan } from '../../src/access/recognise.ts';
import { accessOf, RULES, type SpanParts, span, type Values } from './evidence.ts';

type Case = readonly [title: string, values: Values, parts: SpanParts, expected: Values];

/** What each test looks at, in one flat shape. */
function summary(values: Values, parts: SpanParts): Values {
  const { preset, action, category, target, outcome, decision, reason = '', type } = accessOf(span(values, parts));
  return {
    preset,
    action,
    category: category.join(),
    type: type.join(),
    target: `${target.type} ${target.id}`,
    outcome,
    decision,
    reason,
  };
}

const SERVER: SpanParts = { kind: 'server', name: 'GET' };
const CLIENT: SpanParts = { kind: 'client' };

const HTTP: Case[] = [
  [
    'Node, new names: the row',
    {
      'http.request.method': 'GET',
      'url.path': '/patients/7',
      'http.route': '/patients/:id',
      'http.response.status_code': 200,
    },
    SERVER,
    {
      preset: 'http.server',
      action: 'GET',
      category: 'web',
      type: 'access',
      target: 'endpoint patients/7',
      outcome: 'success',
      decision: 'none',
      reason: '',
    },
  ],
  [
    'Python, old names: the row out of http.target',
    {
      'http.method': 'GET',
      'http.target': '/patients/7?token=x',
      'http.route': '/patients/<int:id>',
      'http.status_code': 403n,
    },
    SERVER,
    {
      target: 'endpoint patients/7',
      outcome: 'failure',
      decision: 'deny',
      reason: '403 from orders',
      type: 'access,denied',
    },
  ],
  [
    'Java: a route without parameters',
    { 'http.request.method': 'POST', 'url.path': '/orders', 'http.route': '/orders', 'http.response.status_code': 201 },
    SERVER,
    { action: 'POST', target: 'endpoint orders /orders', outcome: 'success' },
  ],
  [
    'no route: the path with ids folded',
    { 'http.method': 'GET', 'http.url': 'http://shop:80/orders/4711/items?x=1', 'http.status_code': 404 },
    SERVER,
    { target: 'endpoint orders /orders/{id}/items', outcome: 'failure', decision: 'none', reason: '404 from orders' },
  ],
  [
    'an exception says more than the status',
    { 'http.request.method': 'DELETE', 'url.path': '/x', 'http.response.status_code': 500, 'error.type': '500' },
    { ...SERVER, error: true, exception: { 'exception.type': 'ValueError', 'exception.message': 'no such x\nmore' } },
    { type: 'deletion', outcome: 'failure', decision: 'none', reason: '500 from orders: no such x' },
  ],
  [
    '401 is a failed authentication',
    { 'http.request.method': 'GET', 'url.path': '/x', 'http.response.status_code': '401' },
    SERVER,
    { category: 'web,authentication', outcome: 'failure', decision: 'deny', target: 'endpoint orders /x' },
  ],
  [
    'without a status the end is unknown',
    { 'http.request.method': 'GET', 'url.path': '/x' },
    SERVER,
    { outcome: 'unknown' },
  ],
  [
    'odd methods are told as they were sent',
    {
      'http.request.method': '_OTHER',
      'http.request.method_original': 'purge',
      'url.path': '/x',
      'http.response.status_code': 200,
    },
    SERVER,
    { action: 'PURGE' },
  ],
  [
    'Go: the route is the name of the span',
    { 'http.method': 'GET', 'http.target': '/patients/7', 'http.status_code': 200 },
    { ...SERVER, name: 'GET /patients/{id}' },
    { target: 'endpoint patients/7' },
  ],
  [
    'a name that does not fit the path',
    { 'http.request.method': 'GET', 'url.path': '/doctors/7' },
    { ...SERVER, name: 'GET /patients/{id}' },
    { target: 'endpoint orders /doctors/{id}' },
  ],
  [
    'a name with the path itself',
    { 'http.request.method': 'GET', 'url.path': '/patients/7' },
    { ...SERVER, name: 'GET /patients/7' },
    { target: 'endpoint orders /patients/{id}' },
  ],
  [
    'a route for everything tells less than the path',
    { 'http.request.method': 'GET', 'url.path': '/patients/7', 'http.route': '/' },
    SERVER,
    { target: 'endpoint orders /patients/{id}' },
  ],
  [
    'neither route nor path',
    { 'http.request.method': 'GET' },
    { ...SERVER, name: 'GET /patients/7' },
    { target: 'endpoint orders /patients/{id}' },
  ],
];

const RPC: Case[] = [
  [
    'old gRPC names',
    { 'rpc.system': 'grpc', 'rpc.service': 'shop.Orders', 'rpc.method': 'Get', 'rpc.grpc.status_code': 7 },
    { ...SERVER, error: 'caller lacks orders.read' },
    {
      preset: 'rpc.server',
      action: 'Get',
      category: 'api',
      target: 'rpc method shop.Orders/Get',
      outcome: 'failure',
      decision: 'deny',
      reason: 'PERMISSION_DENIED from orders: caller lacks orders.read',
    },
  ],
  [
    'new gRPC names',
    { 'rpc.system.name': 'grpc', 'rpc.method': 'shop.Orders/Get', 'rpc.response.status_code': 'OK' },
    SERVER,
    { action: 'Get', target: 'rpc method shop.Orders/Get', outcome: 'success' },
  ],
  [
    'UNAUTHENTICATED is a failed authentication',
    { 'rpc.system': 'grpc', 'rpc.service': 'S', 'rpc.method': 'M', 'rpc.grpc.status_code': '16' },
    SERVER,
    { category: 'api,authentication', decision: 'deny' },
  ],
  [
    'NOT_FOUND fails but is no denial',
    { 'rpc.system': 'grpc', 'rpc.service': 'S', 'rpc.method': 'M', 'rpc.grpc.status_code': 5n },
    SERVER,
    { outcome: 'failure', decision: 'none', reason: 'NOT_FOUND from orders' },
  ],
];

const DATABASE: Case[] = [
  [
    'Python, old names, statement only',
    { 'db.system': 'postgresql', 'db.name': 'shop', 'db.statement': 'SELECT * FROM "orders" WHERE id = 7' },
    CLIENT,
    {
      preset: 'db.client',
      action: 'SELECT',
      category: 'database',
      type: 'access',
      target: 'table postgresql/shop.orders',
      outcome: 'success',
    },
  ],
  [
    'Java, old names, table named',
    {
      'db.system': 'postgresql',
      'db.name': 'shop',
      'db.operation': 'UPDATE',
      'db.sql.table': 'public.orders',
      'db.statement': 'update orders set a=?',
    },
    CLIENT,
    { action: 'UPDATE', type: 'change', target: 'table postgresql/shop.orders' },
  ],
  [
    'new names win',
    {
      'db.system.name': 'postgresql',
      'db.namespace': 'shop|billing',
      'db.collection.name': 'invoices',
      'db.operation.name': 'INSERT',
    },
    CLIENT,
    { action: 'INSERT', type: 'creation', target: 'table postgresql/shop.billing.invoices' },
  ],
  [
    'Node pg: refused, told by an exception',
    { 'db.system': 'postgresql', 'db.name': 'shop', 'db.user': 'app', 'db.statement': 'SELECT * FROM orders' },
    {
      ...CLIENT,
      name: 'pg.query:SELECT shop',
      error: 'permission denied for table orders',
      exception: { 'exception.type': 'error', 'exception.message': 'permission denied for table orders' },
    },
    {
      type: 'access,denied',
      outcome: 'failure',
      decision: 'deny',
      reason: 'permission denied for table orders (42501)',
    },
  ],
  [
    'newer Node pg: all it tells is the code',
    { 'db.system.name': 'postgresql', 'db.namespace': 'shop', 'db.query.text': 'SELECT * FROM orders' },
    { ...CLIENT, error: "PostgreSQL error of type 'error' occurred (code: 42501)" },
    { decision: 'deny', reason: 'permission denied (42501)', type: 'access,denied' },
  ],
  [
    'Java: refused, told by SQLSTATE',
    {
      'db.system.name': 'postgresql',
      'db.namespace': 'shop',
      'db.query.text': 'DELETE FROM orders',
      'db.response.status_code': '42501',
      'error.type': '42501',
    },
    { ...CLIENT, error: 'ERROR: permission denied for table orders' },
    {
      action: 'DELETE',
      type: 'deletion,denied',
      decision: 'deny',
      reason: 'permission denied for table orders (42501)',
    },
  ],
  [
    'Python: refused, told by the exception type',
    { 'db.system': 'postgresql', 'db.statement': 'DROP TABLE t' },
    {
      ...CLIENT,
      error: true,
      exception: {
        'exception.type': 'psycopg.errors.InsufficientPrivilege',
        'exception.message': 'must be owner of table t',
      },
    },
    { type: 'admin,deletion,denied', decision: 'deny', reason: 'must be owner of table t (42501)' },
  ],
  [
    'a wrong password is a failed authentication of the account',
    { 'db.system': 'postgresql', 'db.name': 'shop' },
    { ...CLIENT, name: 'pg.connect', error: 'password authentication failed for user "app"' },
    {
      category: 'database,authentication',
      target: 'account app',
      decision: 'deny',
      reason: 'password authentication failed for user "app" (28P01)',
    },
  ],
  [
    'another error is no denial, and loses the values in it',
    {
      'db.system': 'postgresql',
      'db.name': 'shop',
      'db.statement': 'INSERT INTO users VALUES (1)',
      'db.response.status_code': '23505',
    },
    { ...CLIENT, error: 'duplicate key value: Key (email)=(alice@x.org) already exists.' },
    { outcome: 'failure', decision: 'none', reason: 'duplicate key value: Key (email)=(?) already exists. (23505)' },
  ],
  [
    'MySQL: command denied',
    { 'db.system': 'mysql', 'db.name': 'shop', 'db.statement': 'SELECT `a` FROM `shop`.`orders`' },
    { ...CLIENT, error: "SELECT command denied to user 'app'@'localhost' for table 'orders'" },
    { target: 'table mysql/shop.orders', decision: 'deny' },
  ],
  [
    'MongoDB',
    {
      'db.system': 'mongodb',
      'db.name': 'clinic',
      'db.mongodb.collection': 'patients',
      'db.operation': 'find',
      'db.statement': '{"find":"patients","filter":{"name":"alice"}}',
    },
    CLIENT,
    { action: 'find', target: 'table mongodb/clinic.patients' },
  ],
  [
    'Redis has no tables',
    { 'db.system': 'redis', 'db.redis.database_index': 0, 'db.statement': 'DEL session:7' },
    { ...CLIENT, name: 'redis-DEL' },
    { action: 'DEL', type: 'deletion', target: 'database redis/0' },
  ],
  [
    'Redis leaves out the index of its first database',
    { 'db.system': 'redis' },
    CLIENT,
    { target: 'database redis/0' },
  ],
  [
    'Elasticsearch, old names',
    { 'db.system': 'elasticsearch', 'db.operation': 'search', 'db.elasticsearch.path_parts.index': 'patients' },
    CLIENT,
    { action: 'search', target: 'table elasticsearch/patients' },
  ],
];

const postgres = (text: string): Values => ({ 'db.system': 'postgresql', 'db.name': 'shop', 'db.statement': text });
const redis = (text: string): Values => ({ 'db.system': 'redis', 'db.statement': text });

const OPERATIONS: Case[] = (
  [
    [postgres('COPY orders TO STDOUT'), 'COPY', 'access'],
    [postgres("COPY (SELECT * FROM orders) TO '/tmp/x' CSV"), 'COPY', 'access'],
    [postgres("COPY orders (id, a) FROM '/tmp/to'"), 'COPY', 'creation'],
    [{ 'db.system': 'snowflake', 'db.statement': 'copy into @stage from orders' }, 'COPY', 'access'],
    [postgres('set role admin'), 'SET ROLE', 'admin'],
    [postgres('SET SESSION AUTHORIZATION admin'), 'SET AUTHORIZATION', 'admin'],
    [{ ...postgres('SET pgaudit.log = 1'), 'db.operation': 'SET' }, 'SET PGAUDIT.LOG', 'admin'],
    [{ 'db.system': 'mysql', 'db.statement': "SET PASSWORD FOR 'a'@'%' = 'x'" }, 'SET PASSWORD', 'admin'],
    [{ 'db.system': 'mysql', 'db.statement': 'SHOW GRANTS FOR a' }, 'SHOW GRANTS', 'access'],
    [postgres('BEGIN; DELETE FROM orders; COMMIT'), 'DELETE', 'deletion'],
    [postgres('SET a = 1; SET ROLE admin; SET b = 1'), 'SET ROLE', 'admin'],
    [{ 'db.system': 'mssql', 'db.statement': 'SET NOCOUNT ON;\nINSERT INTO t VALUES (1)' }, 'INSERT', 'creation'],
    [{ 'db.system': 'oracle', 'db.statement': 'BEGIN clinic.discharge(:1); END;' }, 'CALL', 'access'],
    [{ 'db.system': 'oracle', 'db.statement': 'begin update t set a = 1; end;' }, 'UPDATE', 'change'],
    [redis('SET patient:7 x'), 'SET', 'change'],
    [redis('set patient:7 x'), 'SET', 'change'],
    [redis('MULTI\nHDEL patient:7 a\nEXEC'), 'HDEL', 'deletion'],
    [redis('ZADD queue 1 x'), 'ZADD', 'creation'],
    [redis('client kill 10.0.0.1:9'), 'CLIENT KILL', 'admin'],
    [redis('CONFIG SET requirepass x'), 'CONFIG SET', 'admin'],
  ] satisfies [Values, string, string][]
).map(([values, action, type]) => [`${values['db.statement']}`, values, CLIENT, { action, type, outcome: 'success' }]);

const OTHERS: Case[] = [
  [
    'publish, old names',
    { 'messaging.system': 'kafka', 'messaging.destination': 'orders' },
    { kind: 'producer' },
    { preset: 'messaging.producer', action: 'publish', target: 'topic orders', type: 'creation', outcome: 'success' },
  ],
  [
    'process, new names',
    { 'messaging.system': 'kafka', 'messaging.destination.name': 'orders', 'messaging.operation.type': 'process' },
    { kind: 'consumer', error: 'boom' },
    { preset: 'messaging.consumer', action: 'process', outcome: 'failure', reason: 'boom' },
  ],
  [
    'receive by a client',
    { 'messaging.system': 'aws_sqs', 'messaging.destination.name': 'jobs', 'messaging.operation.type': 'receive' },
    CLIENT,
    { action: 'receive', target: 'topic jobs' },
  ],
  [
    'temporary destinations go by their template',
    {
      'messaging.system': 'rabbitmq',
      'messaging.destination.name': 'amq.gen-JzTY',
      'messaging.destination.temporary': true,
      'messaging.destination.template': 'replies',
    },
    { kind: 'producer' },
    { target: 'topic replies' },
  ],
  [
    'a file',
    { 'file.path': '/etc/shadow' },
    { name: 'fs readFile', error: "EACCES: permission denied, open '/etc/shadow'" },
    {
      preset: 'file',
      action: 'readFile',
      category: 'file',
      type: 'access,denied',
      target: 'file /etc/shadow',
      decision: 'deny',
    },
  ],
  [
    'an object store',
    {
      'rpc.system': 'aws-api',
      'rpc.service': 'S3',
      'rpc.method': 'PutObject',
      'aws.s3.bucket': 'scans',
      'aws.s3.key': '7/mri.dcm',
      'http.status_code': 403,
    },
    { ...CLIENT, exception: { 'exception.type': 'AccessDenied', 'exception.message': 'Access Denied' } },
    {
      preset: 'object_store',
      action: 'PutObject',
      type: 'change,denied',
      target: 'object scans/7/mri.dcm',
      decision: 'deny',
      reason: '403 from S3: Access Denied',
    },
  ],
  ...(
    [
      [{ 'messaging.destination': '', 'messaging.rabbitmq.routing_key': 'jobs' }, 'jobs'],
      [{ 'messaging.destination.name': '<default>', 'messaging.rabbitmq.destination.routing_key': 'jobs' }, 'jobs'],
      [{ 'messaging.destination.name': 'orders', 'messaging.rabbitmq.destination.routing_key': 'new' }, 'orders'],
    ] satisfies [Values, string][]
  ).map(
    ([values, topic]): Case => [
      `RabbitMQ: ${JSON.stringify(values)}`,
      { 'messaging.system': 'rabbitmq', ...values },
      { kind: 'producer', name: 'send' },
      { target: `topic ${topic}` },
    ],
  ),
  ...(
    [
      ['ListObjectsV2', { 'aws.s3.bucket': 'scans' }, 'bucket scans'],
      ['CopyObject', { 'aws.s3.bucket': 'b', 'aws.s3.key': 'k', 'aws.s3.copy_source': '/a/x' }, 'object b/k'],
      ['CopyObject', { 'aws.s3.copy_source': 'a/x' }, 'object a/x'],
      ['ListBuckets', {}, 'service S3'],
    ] satisfies [string, Values, string][]
  ).map(
    ([method, values, target]): Case => [
      `S3: ${method} of ${target}`,
      { 'rpc.system': 'aws-api', 'rpc.service': 'S3', 'rpc.method': method, ...values },
      CLIENT,
      { action: method, target },
    ],
  ),
  [
    'a tool of a model',
    { 'gen_ai.tool.name': 'lookup_patient', 'gen_ai.operation.name': 'execute_tool', 'error.type': 'timeout' },
    {},
    {
      preset: 'gen_ai.tool',
      action: 'execute_tool',
      target: 'tool lookup_patient',
      outcome: 'failure',
      reason: 'timeout',
    },
  ],
  [
    'a tool over MCP',
    { 'mcp.method.name': 'tools/call', 'mcp.tool.name': 'lookup_patient' },
    SERVER,
    { action: 'execute_tool', target: 'tool lookup_patient' },
  ],
  [
    'a login whose account is known',
    { 'http.request.method': 'POST', 'url.path': '/api/login', 'http.response.status_code': 401, 'user.name': 'alice' },
    SERVER,
    {
      action: 'login',
      category: 'authentication,web',
      type: 'start,denied',
      target: 'account alice',
      outcome: 'failure',
      decision: 'deny',
    },
  ],
  [
    'a span that says it is an authentication',
    { 'event.category': ['authentication'], 'event.action': 'token-refresh', 'user.id': 'alice' },
    { name: 'refresh' },
    {
      preset: 'auth',
      action: 'token-refresh',
      category: 'authentication',
      type: 'start',
      target: 'account alice',
      outcome: 'success',
    },
  ],
];

describe.each([
  ['HTTP', HTTP],
  ['RPC', RPC],
  ['databases', DATABASE],
  ['operations', OPERATIONS],
  ['messages, files, tools, logins', OTHERS],
])('%s', (_, cases) => {
  it.each(cases)('%s', (_title, values, parts, expected) => {
    expect(summary(values, parts)).toMatchObject(expected);
  });
});

describe('what is no access', () => {
  it.each<[string, Values, SpanParts]>([
    ['an HTTP client', { 'http.request.method': 'GET', 'url.full': 'http://x/' }, CLIENT],
    ...['/login', '/logout', '/oauth/token'].map((path): [string, Values, SpanParts] => [
      `the client of ${path}`,
      { 'http.request.method': 'POST', 'url.full': `http://x${path}`, 'http.response.status_code': 401 },
      CLIENT,
    ]),
    ['an internal span', { 'http.route': '/x' }, { name: 'middleware' }],
    ['a server-side database span', { 'db.system': 'postgresql' }, SERVER],
    ['an acknowledgement', { 'messaging.system': 'x', 'messaging.operation.type': 'settle' }, { kind: 'consumer' }],
    ['another call to AWS', { 'rpc.system': 'aws-api', 'rpc.service': 'STS', 'rpc.method': 'AssumeRole' }, CLIENT],
    ['housekeeping of MCP', { 'mcp.method.name': 'tools/list' }, SERVER],
    ['a chat with a model that has tools', { 'gen_ai.operation.name': 'chat', 'gen_ai.tool.name': 'x' }, CLIENT],
  ])('%s is context', (_, values, parts) => {
    expect(recogniseSpan(span(values, parts), RULES)).toEqual({ kind: 'context' });
  });
});

describe('sections', () => {
  it('keep what the record shows, without secrets', () => {
    const access = accessOf(
      span(
        {
          'http.request.method': 'GET',
          'url.path': '/reset/s3cr3t/7',
          'url.query': 'page=2&access_token=abc&To%6ben=d',
          'http.route': '/reset/{token}/{id}',
          'http.response.status_code': 200,
          'client.address': '::ffff:10.0.0.7',
          'client.port': 1234,
          'http.host': 'shop.example:8080',
          'user_agent.original': 'curl/8',
        },
        SERVER,
      ),
    );
    expect(access.sections).toEqual({
      http: { request: { method: 'GET' }, response: { status_code: 200 }, route: '/reset/{token}/{id}' },
      url: { path: '/reset/***/7', query: 'page=2&access_token=***&To%6ben=***', domain: 'shop.example' },
      source: { ip: '10.0.0.7', port: 1234 },
      user_agent: { original: 'curl/8' },
    });
    expect(access.target).toEqual({
      type: 'endpoint',
      id: 'orders /reset/{token}/{id}',
      name: 'orders GET /reset/{token}/{id}',
      service: 'orders',
    });
  });

  it.each<[string, Values, object]>([
    ['GET /patients/{id}', { 'url.path': '/patients/7' }, { id: 'patients/7', name: 'orders GET /patients/{id}' }],
    ['GET', { 'http.route': 'GET /x' }, { id: 'orders /x', name: 'orders GET /x' }],
    ['HTTP GET', {}, { id: 'orders', name: 'orders GET' }],
    ['GET /x', {}, { id: 'orders /x', name: 'orders GET /x' }],
  ])('name the place once: %s', (name, values, target) => {
    const access = accessOf(span({ 'http.request.method': 'GET', ...values }, { kind: 'server', name }));
    expect(access.target).toMatchObject(target);
    expect(access.sections.http?.route ?? '').not.toContain('GET');
  });

  it('name what a copy was made of', () => {
    const values = { 'aws.s3.bucket': 'b', 'aws.s3.key': 'k', 'aws.s3.copy_source': '/a/x' };
    expect(accessOf(span(values, { kind: 'client', name: 'S3.CopyObject' })).target.name).toBe('b/k from a/x');
  });

  it('tell the login of the service apart from the person', () => {
    const values = { 'db.system': 'mysql', 'db.user': 'app', 'db.statement': "SELECT 1 FROM t WHERE a='x'" };
    const access = accessOf(span(values, CLIENT));
    expect(access).toMatchObject({
      effective: { name: 'app' },
      sections: { db: { statement: 'SELECT ? FROM t WHERE a=?' } },
    });
    expect(access.actor).toBeUndefined();
  });

  it.each<[string, string | true, Values, string]>([
    ['no message', true, {}, 'UNAUTHENTICATED'],
    ['the number of the code', 'no token', { 'error.type': '16' }, 'UNAUTHENTICATED'],
    ['a type of its own', true, { 'error.type': 'io.grpc.StatusException' }, 'io.grpc.StatusException'],
  ])('have the name of the gRPC status: %s', (_, error, more, type) => {
    const values = { 'rpc.system': 'grpc', 'rpc.service': 'S', 'rpc.method': 'M', 'rpc.grpc.status_code': 16, ...more };
    expect(accessOf(span(values, { kind: 'server', error })).error?.type).toBe(type);
  });

  it('carry the exception', () => {
    const exception = {
      'exception.type': 'E',
      'exception.message': 'm',
      'exception.stacktrace': `at ${'x'.repeat(9000)}`,
    };
    const { error } = accessOf(span({ 'file.path': '/x' }, { error: true, exception }));
    expect(error).toMatchObject({ type: 'E', message: 'm' });
    expect(error?.stack).toHaveLength(8000);
  });
});

describe('senders without trust', () => {
  it('report context, but no outcome, decision, reason or account', () => {
    const values = {
      'http.request.method': 'POST',
      'url.path': '/login',
      'http.response.status_code': 401,
      'user.id': 'alice',
    };
    const access = accessOf(span(values, { ...SERVER, note: { trusted: false } }));
    expect(access).toMatchObject({ outcome: 'unknown', decision: 'none', whySource: 'none', type: ['start'] });
    expect([access.reason, access.claimedAccount, access.actor]).toEqual([undefined, undefined, undefined]);
  });
});
