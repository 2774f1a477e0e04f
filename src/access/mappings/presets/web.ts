import type { Fields, Mapping, Source } from '../mapping.ts';

/** What an answer's status says; Envoy writes 0 when there was no answer, nginx 000 and 499 when the client went away. */
function outcomeOf(status: Source): Fields {
  return {
    'http.response.status_code': status,
    'event.outcome': {
      from: status,
      map: { '0': 'unknown', '000': 'unknown', '4*': 'failure', '5*': 'failure', '*': 'success' },
    },
    'audit.decision': { from: status, map: { 401: 'deny', 403: 'deny' } },
  };
}

/** The status of an answer that was none to what was asked. */
const REFUSED = String.raw`^(?P<refused>[45]\d\d)$`;

const ENVOY_METHOD = [
  '${method}',
  '${request_method}',
  '${req_method}',
  '${http.method}',
  '${:method}',
  '${request.method}',
];
/** What TCP proxies write. */
const NO_REQUEST = { upstream_cluster: '*', method: '!*', ':method': '!*', request_method: '!*', req_method: '!*' };

const ENVOY_STATUS = [
  '${response_code}',
  '${status}',
  '${status_code}',
  '${response.code}',
  '${code}',
  '${response_status}',
];
const ENVOY_PATH = [
  '${x_envoy_origin_path}',
  '${x-envoy-origin-path}',
  '${x-envoy-original-path}',
  '${path}',
  '${request_path}',
  '${:path}',
  '${uri}',
];
const ENVOY_ID = ['${request_id}', '${x-request-id}', '${x_request_id}', '${req_id}'];
const STARTED = ['${start_time}', '${timestamp}', '${time}', '${@timestamp}', '${start}'];

/** A call of gRPC that failed has HTTP 200 all the same. */
const GRPC_STATUS = ['${grpc_status}', '${grpc_status_number}', '${grpc-status}'];
const GRPC_REFUSED = {
  ...{ PermissionDenied: 'deny', PERMISSION_DENIED: 'deny', 7: 'deny' },
  ...{ Unauthenticated: 'deny', UNAUTHENTICATED: 'deny', 16: 'deny' },
};

/** One access of a person may pass several proxies under one request id, so that the id alone would not tell them apart. */
const ENVOY_EVENT_ID: Source = ['${request}/${started}/${upstream_cluster}', '${request}/${started}'];

/** Envoy's JSON access logs: envoyproxy.io, "Access logging"; the formats that Istio and Envoy Gateway come with. */
export const ENVOY: readonly Mapping[] = [
  { name: 'envoy', when: { response_flags: '*' } },
  { name: 'envoy.code-details', when: { response_code_details: '*' } },
  { name: 'envoy.upstream', when: { upstream_cluster: '*' } },
  { name: 'envoy.downstream', when: { downstream_remote_address: '*' } },
  { name: 'envoy.path', when: { response_code: '*', path: '*' } },
  { name: 'envoy.authority', when: { response_code: '*', authority: '*' } },
  { name: 'envoy.named', when: { 'spantrail.preset': 'envoy', response_code: '*' } },
  { name: 'envoy.status', when: { 'spantrail.preset': 'envoy', status: '*' } },
].map(({ name, when }) => ({
  name,
  preset: 'envoy',
  nothing: ['-'],
  when: when as Mapping['when'],
  extract: [
    { from: ENVOY_PATH, patterns: [String.raw`^(?:[a-z]+://[^/]*)?(?P<url_path>[^?]+)(?:\?(?P<url_query>.*))?$`] },
    { from: ENVOY_ID, patterns: ['^(?P<request>[^-].*)$'] },
    { from: STARTED, patterns: ['^(?P<started>.+)$'] },
    { from: ENVOY_STATUS, patterns: [REFUSED] },
    { from: GRPC_STATUS, patterns: ['^(?P<grpc_failed>[1-9][0-9]?|[A-Za-z_]{3,})$'] },
    {
      from: '${response_code_details}',
      patterns: [String.raw`^rbac_access_denied_matched_policy\[(?P<policy>.+)\]$`],
    },
    {
      from: ['${downstream_peer_uri_san}', '${downstream_peer_subject}'],
      patterns: [String.raw`(?P<peer>spiffe://[^,;"\s]+)`, 'CN=(?P<peer>[^,;"/]+)'],
    },
    {
      // `By` is the one that was called.
      from: ['${x-forwarded-client-cert}', '${x_forwarded_client_cert}'],
      patterns: [
        String.raw`^[^,]*?\bURI=\"?(?P<peer>spiffe://[^,;"\s]+)`,
        'Subject="[^"]*CN=(?P<peer>[^,;"/]+)',
        String.raw`^(?P<peer>spiffe://[^,;"\s]+)`,
      ],
    },
  ],
  fields: {
    ...outcomeOf(ENVOY_STATUS),
    'event.outcome': [{ from: 'failure', when: { grpc_failed: '*' } }, outcomeOf(ENVOY_STATUS)['event.outcome'] ?? []],
    'event.id': ENVOY_EVENT_ID,
    'event.start': STARTED,
    'event.duration': [{ from: ['${duration}', '${duration_ms}', '${response_duration}'], unit: 'ms' as const }],
    'event.action': { from: 'connect', when: NO_REQUEST },
    'audit.target.type': { from: 'service', when: NO_REQUEST },
    'audit.target.id': { from: ['${upstream_cluster}', '${upstream_host}'], when: NO_REQUEST },
    'http.request.method': ENVOY_METHOD,
    'url.path': '${url_path}',
    'url.query': '${url_query}',
    'url.domain': ['${authority}', '${:authority}', '${req_authority}', '${host}'],
    'event.category': 'web',
    'event.reason': [
      '${refused}: denied by policy ${policy}',
      { from: '${refused}: ${response_code_details}', when: { response_code_details: ['!via_upstream', '!-'] } },
      '${refused}: ${response_flags}',
      '${refused} from ${authority}',
      '${refused} from ${:authority}',
      '${refused}',
      'gRPC status ${grpc_failed}',
    ],
    'audit.decision': [
      {
        from: '${response_code_details}',
        map: { 'rbac_access_denied*': 'deny', 'ext_authz_denied*': 'deny', 'jwt_authn_access_denied*': 'deny' },
      },
      { from: '${response_flags}', map: { '*UAEX*': 'deny' } },
      { from: ENVOY_STATUS, map: { 401: 'deny', 403: 'deny' } },
      { from: '${grpc_failed}', map: GRPC_REFUSED },
    ],
    'rule.name': '${policy}',
    'user.id': [
      '${user_id}',
      '${user}',
      '${jwt_sub}',
      '${sub}',
      '${x-forwarded-user}',
      '${x_forwarded_user}',
      '${x-auth-request-user}',
      '${peer}',
    ],
    'user.email': ['${x-forwarded-email}', '${x-auth-request-email}', '${user_email}'],
    'audit.actor.type': { from: 'service', when: { peer: '*', user_id: '!*', user: '!*', jwt_sub: '!*', sub: '!*' } },
    'source.ip': [
      '${downstream_remote_address}',
      '${downstream_direct_remote_address}',
      '${remote_address}',
      '${client_ip}',
    ],
    'source.port': '${downstream_remote_port}',
    'user_agent.original': ['${user_agent}', '${user-agent}', '${userAgent}'],
    'audit.target.service': ['${service_name}'],
  },
}));

const NGINX_STATUS = ['${status}', '${status_code}', '${response_status}', '${http.status}', '${nginx.status}'];
const NGINX_TIME = ['${msec}', '${time_iso8601}', '${time_local}', '${@timestamp}', '${timestamp}', '${time}', '${ts}'];

/** nginx: the variables of its log module, core module and OpenTelemetry modules, under their own names or the usual ones. */
export const NGINX: readonly Mapping[] = [
  { name: 'nginx', when: { request: '* *', status: ['1*', '2*', '3*', '4*', '5*'], remote_addr: '*' } },
  { name: 'nginx.method', when: { request_method: '*', status: '*', remote_addr: '*' } },
  { name: 'nginx.uri', when: { request_uri: '*', status: '*', remote_addr: '*' } },
  { name: 'nginx.ingress', when: { remote_addr: '*', status: '*', path: '*' } },
  { name: 'nginx.time', when: { request_method: '*', status: '*', request_time: '*' } },
  { name: 'nginx.line', when: { request: '* HTTP/*', status: '*', request_time: '*' } },
  { name: 'nginx.named', when: { 'spantrail.preset': 'nginx', status: '*' } },
].map(({ name, when }) => ({
  name,
  preset: 'nginx',
  nothing: ['-'],
  when: when as Mapping['when'],
  extract: [
    {
      from: '${request}',
      patterns: [String.raw`^(?P<line_method>[A-Z]+) (?P<line_uri>\S+)(?: HTTP/[\d.]+)?$`],
    },
    {
      from: ['${request_uri}', '${line_uri}', '${uri}', '${path}', '${url}'],
      patterns: [String.raw`^(?:[a-z]+://[^/]*)?(?P<url_path>[^?]+)(?:\?(?P<url_query>.*))?$`],
    },
    { from: ['${request_id}', '${req_id}', '${x_request_id}'], patterns: ['^(?P<request_name>[^-].*)$'] },
    { from: NGINX_TIME, patterns: ['^(?P<ended>.+)$'] },
    { from: NGINX_STATUS, patterns: [REFUSED] },
  ],
  fields: {
    ...outcomeOf(NGINX_STATUS),
    'event.id': '${request_name}/${ended}',
    'event.end': NGINX_TIME,
    'event.duration': {
      from: ['${request_time}', '${duration}', '${response_time}', '${resp_time}'],
      unit: 's' as const,
    },
    'http.request.method': ['${request_method}', '${method}', '${line_method}'],
    'url.path': '${url_path}',
    'url.query': ['${args}', '${query_string}', '${request_query}', '${url_query}'],
    'url.domain': ['${host}', '${http_host}', '${server_name}', '${vhost}'],
    'url.scheme': '${scheme}',
    'http.response.body.size': ['${body_bytes_sent}', '${bytes_sent}', '${resp_body_size}', '${bytes}'],
    'event.category': 'web',
    // With `ssl_verify_client optional_no_ca` nginx tells the subject of a certificate that nobody vouches for.
    'user.id': ['${remote_user}', '${user}', { from: '${ssl_client_s_dn}', when: { ssl_client_verify: '!FAILED*' } }],
    'event.reason': ['${refused} from ${host}', '${refused} from ${server_name}', '${refused}'],
    'source.ip': ['${remote_addr}', '${remote_ip}', '${client_ip}', '${client}', '${address}'],
    'source.port': '${remote_port}',
    'user_agent.original': ['${http_user_agent}', '${user_agent}', '${agent}', '${userAgent}'],
  },
}));
