import { words } from './attributes.ts';
import type { CheckSettings, PurposeSettings } from './check-settings.ts';
import { type ClaimNames, DEFAULT_CLAIM_NAMES } from './credentials.ts';
import type { IdentityHeader } from './identity.ts';
import type { Mapping } from './mappings/mapping.ts';
import { ALL_PRESETS } from './mappings/presets/presets.ts';
import type { OriginSettings } from './origin.ts';

/**
 * Which evidence a rule is about: every key must fit. A key is the name of an attribute of the span or log record (either
 * convention's name finds both), else of its resource, or one that stands for no attribute (PSEUDO_VALUES in rules.ts). A value is a pattern or a list of which one must
 * fit; `*` stands for any characters; a pattern that begins with `!` must not fit. Letter case counts.
 */
export interface RuleMatch {
  readonly name: string;
  readonly when: Readonly<Record<string, string | readonly string[]>>;
}

/** Gives accesses another action or target. `${key}` in a text stands for the value of any key that `when` may use. */
export interface RenameRule extends RuleMatch {
  readonly action?: string;
  readonly target?: { readonly type?: string; readonly id?: string; readonly name?: string };
}

/** Makes accesses of spans and log records that are none by default. */
export interface AddRule extends RuleMatch {
  readonly action: string;
  readonly target: { readonly type: string; readonly id: string; readonly name?: string };
  /** ECS event categories and types; `api` and `access` when left out. */
  readonly category?: readonly string[];
  readonly type?: readonly string[];
}

/** Says that evidence is an authentication; without an action it keeps its own. */
export interface AuthenticationRule extends RuleMatch {
  readonly action?: string;
}

export interface AccessSettings {
  /** Accesses that stay although an exclude rule fits. */
  readonly include: readonly RuleMatch[];
  /** Accesses that are left out (and counted). */
  readonly exclude: readonly RuleMatch[];
  /** Tried in order on every access that stays; all that fit apply. */
  readonly rename: readonly RenameRule[];
  readonly add: readonly AddRule[];
  readonly authentication: readonly AuthenticationRule[];
  /** Patterns of event names whose log records are accesses; a record with `audit.*` attributes is one under any name. */
  readonly accessEvents: readonly string[];
  /** Captured request headers that tell who calls, the most reliable first. */
  readonly identityHeaders: readonly IdentityHeader[];
  /** What the claims of tokens are called. */
  readonly claims: ClaimNames;
  /** Names in baggage that hold the id of a user; other fields have the record's own names there. */
  readonly baggageUsers: readonly string[];
  /** Attributes that hold the session, the first that is there counts. */
  readonly sessionAttributes: readonly string[];
  /** Patterns, in lower case, of query and path parameters whose values never reach a record. */
  readonly secretParameters: readonly string[];
  /** What is an authorisation check besides what is known of policy engines. */
  readonly checks?: CheckSettings;
  /** Where it is told what an access is for. */
  readonly purpose?: PurposeSettings;
  /** Which proxies' word for the client counts; without it that of the instrumentation. */
  readonly origin?: OriginSettings;
  /** How log records of other systems become access events: the user's own mappings, tried first, and those of presets. */
  readonly mappings?: readonly Mapping[];
  readonly presets?: readonly Mapping[];
}

function headers(field: IdentityHeader['field'], names: string): IdentityHeader[] {
  return words(names).map((header) => ({ header, field }));
}

/**
 * Headers that gateways, proxies and clouds set: oauth2-proxy, Authelia, authentik, Pomerium, Kong, Traefik, Envoy, nginx, Azure,
 * Amazon, Google, Cloudflare, Tailscale, Teleport, Kubernetes. Only evidence of trusted senders is asked for them; that no
 * caller can set them itself is the gateway's duty.
 */
const IDENTITY_HEADERS: readonly IdentityHeader[] = [
  ...headers(
    'id',
    'x-forwarded-user x-auth-request-user x-authenticated-userid x-remote-user x-webauth-user x-user-id x-user ' +
      'x-ms-client-principal-id x-amzn-oidc-identity tailscale-user-login remote-user x-authentik-uid ' +
      'x-consumer-custom-id x-consumer-username x-pomerium-claim-sub x-vouch-user x-goog-authenticated-user-id',
  ),
  ...headers(
    'name',
    'x-forwarded-preferred-username x-auth-request-preferred-username x-user-name x-ms-client-principal-name ' +
      'x-authentik-username remote-name tailscale-user-name x-pomerium-claim-name',
  ),
  ...headers(
    'email',
    'x-forwarded-email x-auth-request-email x-user-email x-goog-authenticated-user-email ' +
      'cf-access-authenticated-user-email remote-email x-authentik-email x-pomerium-claim-email',
  ),
  ...headers(
    'roles',
    'x-user-roles x-user-role x-auth-request-groups x-forwarded-groups x-remote-group remote-groups x-authentik-groups ' +
      'x-consumer-groups x-pomerium-claim-groups',
  ),
  ...headers('claims', 'x-ms-client-principal x-apigateway-api-userinfo x-endpoint-api-userinfo x-userinfo'),
  ...headers(
    'certificate',
    'x-forwarded-client-cert x-client-cert-spiffe ssl-client-subject-dn x-ssl-client-s-dn x-ssl-client-dn ' +
      'x-client-cert-subject-dn x-amzn-mtls-clientcert-subject x-forwarded-tls-client-cert-info',
  ),
  ...headers(
    'token',
    'authorization x-amzn-oidc-data x-goog-iap-jwt-assertion cf-access-jwt-assertion x-forwarded-access-token ' +
      'x-auth-request-access-token x-pomerium-jwt-assertion teleport-jwt-assertion x-authentik-jwt x-ms-token-aad-id-token',
  ),
  ...headers('effective', 'impersonate-user x-on-behalf-of'),
];

const LOGIN_PATHS = words('*/login */signin */sign-in */logon */authenticate');
const LOGOUT_PATHS = words('*/logout */signout */sign-out */logoff');
const CODE_FILES = words('*.css *.js *.mjs *.map *.wasm *.webmanifest *.ico *.woff *.woff2 *.ttf *.eot */robots.txt');
const PICTURES = words('*.png *.jpg *.jpeg *.gif *.svg *.webp *.avif');
const STATIC_FOLDERS = words('/static/* /assets/* /public/* /dist/*');
/** What build tools write: names of hashes, but never of rows. */
const BUILD_FOLDERS = words('/_next/static/* /_nuxt/* /_app/immutable/* /webjars/*');
const NO_PARAMETERS = ['!*{*', '!*:*', '!*<*', '!*[*'];
const SQL_SYSTEMS = words(
  '*sql* mariadb oracle* db2 ibm.db2 h2 derby redshift aws.redshift cockroach* snowflake trino presto* duckdb vertica ' +
    'teradata firebird* sap.* hanadb maxdb clickhouse spanner gcp.spanner hive spark databricks tidb vitess edb ' +
    'yugabyte* timescale* informix actian.ingres ingres interbase',
);
const SERVED = { 'http.request.method': ['GET', 'HEAD'], 'event.outcome': 'success' };
const NOBODY_AND_NO_ROW = { 'url.path.folded': '!*{id}*', 'audit.actor.id': '!*' };

export const DEFAULT_ACCESS_SETTINGS: AccessSettings = {
  include: [],
  exclude: [
    {
      name: 'health check by path',
      when: {
        'http.request.method': ['GET', 'HEAD'],
        'url.path': words(
          '/health /health/* /healthz /livez /readyz /ping /metrics /actuator/health* */healthz */livez */readyz',
        ),
      },
    },
    {
      name: 'health check by client',
      when: {
        'user_agent.original': ['kube-probe/*', 'ELB-HealthChecker/*', 'GoogleHC/*'],
        'http.request.method': '*',
      },
    },
    { name: 'health check by call', when: { 'rpc.service': ['grpc.health.v1.Health', 'grpc.reflection.*'] } },
    { name: 'health check by method', when: { 'rpc.method': ['grpc.health.v1.Health/*', 'grpc.reflection.*'] } },
    // A path that only ends like a file must not hide the row of a route with parameters, nor one that the path shows.
    {
      name: 'static asset',
      when: { 'url.path': CODE_FILES, ...SERVED, 'http.route': NO_PARAMETERS, 'url.path.folded': '!*{id}*' },
    },
    // Where no route tells, pictures and documents that someone known fetches may be about a row.
    {
      name: 'static picture',
      when: { 'url.path': PICTURES, ...SERVED, 'http.route': NO_PARAMETERS, ...NOBODY_AND_NO_ROW },
    },
    {
      name: 'static folder',
      when: { 'url.path': STATIC_FOLDERS, ...SERVED, 'http.route': ['!*/{*}/*', '!*/:*/*'], ...NOBODY_AND_NO_ROW },
    },
    {
      name: 'static route',
      when: { 'http.route': [...STATIC_FOLDERS, '!*/{*}/*', '!*/:*/*'], ...SERVED, 'url.path.folded': '!*{id}*' },
    },
    { name: 'build folder', when: { 'url.path': BUILD_FOLDERS, ...SERVED } },
    // `SET ROLE`, `SHOW GRANTS` and their kind are actions of their own. What was refused is never chatter.
    {
      name: 'database chatter',
      when: {
        'event.action': words(
          'BEGIN START COMMIT END ROLLBACK SAVEPOINT RELEASE SET SHOW RESET DISCARD DEALLOCATE PING ping close',
        ),
        'db.system.name': SQL_SYSTEMS,
        'event.outcome': 'success',
      },
    },
    {
      name: 'database commands',
      when: {
        'event.action': [
          ...words('PING ping HELLO hello isMaster MULTI EXEC DISCARD WATCH UNWATCH ECHO INFO COMMAND QUIT READONLY'),
          ...['CLIENT SETNAME', 'CLIENT SETINFO', 'CLIENT ID', 'CLIENT GETNAME', 'CLIENT TRACKING', 'CLIENT CACHING'],
        ],
        'db.system.name': ['*', ...SQL_SYSTEMS.map((system) => `!${system}`)],
        'event.outcome': 'success',
      },
    },
    {
      name: 'database ping',
      when: {
        'db.query.text': ['SELECT 1', 'select 1', 'SELECT ?', 'select ?', 'SELECT 1;'],
        'db.system.name': '*',
        'event.outcome': 'success',
      },
    },
    {
      name: 'database connection',
      when: { 'event.action': ['connect', 'CONNECT'], 'event.outcome': 'success', 'db.system.name': '*' },
    },
    // The pool only passes on what happens to the connection below it.
    { name: 'database pool', when: { 'span.name': ['pg-pool.connect', 'pg.pool.*'] } },
  ],
  rename: [],
  add: [],
  authentication: [
    { name: 'authentication category', when: { 'event.category': 'authentication' } },
    {
      name: 'login action',
      when: { 'event.action': ['login', 'logon', 'log_in', 'log-in', 'signin', 'sign_in', 'sign-in', 'authenticate'] },
    },
    {
      name: 'login event',
      when: { 'event.name': ['login', '*.login', 'login.*', '*.login.*', '*.signin'] },
      action: 'login',
    },
    { name: 'logout event', when: { 'event.name': ['logout', '*.logout', '*.signout'] }, action: 'logout' },
    { name: 'authentication event', when: { 'event.name': ['auth.*', 'authentication', 'authentication.*'] } },
    // The one that answers tells; that a client asked is context.
    {
      name: 'login request',
      when: { 'http.request.method': 'POST', 'url.path': LOGIN_PATHS, 'span.kind': 'server' },
      action: 'login',
    },
    {
      name: 'logout request',
      when: { 'http.request.method': ['POST', 'GET'], 'url.path': LOGOUT_PATHS, 'span.kind': 'server' },
      action: 'logout',
    },
    {
      name: 'token request',
      when: { 'http.request.method': 'POST', 'url.path': '*/token', 'span.kind': 'server' },
      action: 'token',
    },
  ],
  accessEvents: ['access', 'access.*', '*.access', 'audit', 'audit.*', '*.audit'],
  identityHeaders: IDENTITY_HEADERS,
  claims: DEFAULT_CLAIM_NAMES,
  baggageUsers: words('user.id enduser.id userId user_id userid username user'),
  sessionAttributes: ['session.id'],
  presets: ALL_PRESETS,
  secretParameters: words(
    '*token* *secret* *password* passwd pwd *signature* sig *api_key* *api-key* *apikey* *access_key* *accesskey* ' +
      '*credential* authorization_code session session*id sid jwt otp',
  ),
};
