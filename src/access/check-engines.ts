import { SPAN_KIND, type Span } from '../core/evidence.ts';
import { asText, clip, countOf, NAMES, textOf } from './attributes.ts';
import type { CompiledHost } from './check-settings.ts';
import type { CheckDraft } from './checks.ts';
import { locationOf } from './http.ts';
import { rpcNames } from './rpc.ts';

/**
 * Calls that ask a policy engine, by service and method: OpenFGA (openfga/api), SpiceDB (authzed/api), Amazon Verified
 * Permissions (as the AWS SDKs' instrumentations name it), Envoy's external authorisation, Cerbos, Ory Keto, Permify.
 */
const RPC_CHECKS: ReadonlyMap<string, { readonly engine: string; readonly methods: RegExp }> = new Map([
  ['openfga.v1.OpenFGAService', { engine: 'openfga', methods: /^(?:Batch)?Check$/ }],
  ['authzed.api.v1.PermissionsService', { engine: 'spicedb', methods: /^Check(?:Permission|BulkPermissions)$/ }],
  ['authzed.api.v1.ExperimentalService', { engine: 'spicedb', methods: /^BulkCheckPermission$/ }],
  ['VerifiedPermissions', { engine: 'cedar', methods: /^(?:Batch)?IsAuthorized(?:WithToken)?$/ }],
  ['envoy.service.auth.v3.Authorization', { engine: 'ext_authz', methods: /^Check$/ }],
  ['envoy.service.auth.v2.Authorization', { engine: 'ext_authz', methods: /^Check$/ }],
  ['cerbos.svc.v1.CerbosService', { engine: 'cerbos', methods: /^CheckResource(?:s|Set|Batch)$/ }],
  ['ory.keto.relation_tuples.v1alpha2.CheckService', { engine: 'keto', methods: /^(?:Batch)?Check$/ }],
  ['base.v1.Permission', { engine: 'permify', methods: /^(?:Bulk)?Check$/ }],
]);

/** Paths at which engines answer checks, with what of the path names the rule; of `opa` and `spicedb` only at their hosts. */
const HTTP_CHECKS: readonly (readonly [RegExp, string])[] = [
  [/\/v[01]\/data\/(.+)$/, 'opa'],
  [/\/v1\/permissions\/check(?:bulk)?$/, 'spicedb'],
  [/\/stores\/[0-7][\dA-HJKMNP-TV-Z]{25}\/(?:batch-)?check$/i, 'openfga'],
  [/\/access\/v1\/evaluations?$/, 'authzen'],
  [/\/v1\/is_authorized$/, 'cedar'],
  [/\/api\/check\/resources$/, 'cerbos'],
  [/\/relation-tuples\/(?:batch\/)?check(?:\/openapi)?$/, 'keto'],
  [/\/v1\/tenants\/[^/]+\/permissions\/(?:bulk-)?check$/, 'permify'],
  [/\/apis\/authorization\.k8s\.io\/v1\/(?:namespaces\/[^/]+\/local|self)?subjectaccessreviews$/, 'kubernetes'],
];
/** One look for all of them: nearly no path is one. */
const MAY_BE_CHECK =
  /\/v[01]\/data\/.|check(?:bulk)?$|\/evaluations?$|\/is_authorized$|\/check\/(?:resources|openapi)$|accessreviews$/;
const ASKED_BY_READING = new Set(['GET', 'POST']);

/** Port on which OPA listens unless told otherwise; `spicedb` and `authzed` are in their hosts' names. */
const OPA_PORT = 8181;
const OPA_HOST = /(?:^|[^a-z])opa(?:[^a-z]|$)|open-?policy-?agent/i;
const SPICEDB_HOST = /spicedb|authzed/i;
const PEER_PORT = ['server.port', 'net.peer.port', 'net.host.port'];
const PEER_NAME = ['net.peer.name'];

/** Attributes by which in-process and server spans of engines tell a check; the key set must keep them. */
export const ENGINE_KEYS = [
  ...PEER_PORT,
  ...PEER_NAME,
  'opa.decision_id',
  'store_id',
  'object',
  'relation',
  'allowed',
  'spicedb.internal.dispatch.resource_type',
  'spicedb.internal.dispatch.resource_ids',
  'cedar.decision',
  'cedar.decision.deny_reason',
  'cedar.action',
  'cedar.action.name',
  'cedar.resource',
  'cedar.resource.uid',
  'cedar.resource.type',
  'cedar.resource.id',
  'cedar.policy_id',
] as const;

/** Without any of these a span is no check of an engine. */
export const ENGINE_CHECK_KEYS = [
  ...[...NAMES.httpMethod, ...NAMES.rpcService, ...NAMES.rpcMethod, 'relation', 'cedar.decision'],
  'spicedb.internal.dispatch.resource_type',
];

/** What an engine, or a call of one, says in a span; undefined for spans that are no check. */
export function engineCheck(span: Span, hosts: readonly CompiledHost[]): CheckDraft | undefined {
  const { kind, attributes } = span;
  if (kind === SPAN_KIND.client || kind === SPAN_KIND.server) return engineCall(span, hosts) ?? ofCedar(span);
  if (attributes.has('relation')) return ofOpenFga(span);
  if (attributes.has('spicedb.internal.dispatch.resource_type')) return ofSpiceDb(span);
  return ofCedar(span);
}

/** The call of an engine, as either side has it. */
export function engineCall(span: Span, hosts: readonly CompiledHost[]): CheckDraft | undefined {
  return calledByRpc(span) ?? calledByHttp(span, hosts);
}

function calledByRpc(span: Span): CheckDraft | undefined {
  if (!span.attributes.has('rpc.service') && !span.attributes.has('rpc.method')) return undefined;
  const { service = '', method = '' } = rpcNames(span);
  const known = RPC_CHECKS.get(service);
  if (known === undefined || !known.methods.test(method)) return undefined;
  // What Envoy asks is by definition about the request that it holds back.
  return { engine: known.engine, ...(known.engine === 'ext_authz' && { ofRequest: true }) };
}

function calledByHttp(span: Span, hosts: readonly CompiledHost[]): CheckDraft | undefined {
  const method = textOf(span.attributes, NAMES.httpMethod)?.toUpperCase();
  if (method === undefined || !ASKED_BY_READING.has(method)) return undefined;
  const { path = '' } = locationOf(span);
  if (!MAY_BE_CHECK.test(path)) return undefined;
  for (const [pattern, engine] of HTTP_CHECKS) {
    const match = pattern.exec(path);
    if (match === null || !answersAt(span, engine, hosts)) continue;
    const rule = match[1];
    return { engine, ...(rule !== undefined && { rule: clip(rule) }) };
  }
  return undefined;
}

/** Is it the engine's path, and not one of a service that has orders, stores or data of its own? */
function answersAt(span: Span, engine: string, hosts: readonly CompiledHost[]): boolean {
  if (span.kind === SPAN_KIND.server) return isEngine(span, engine, hosts);
  if (engine !== 'opa' && engine !== 'spicedb') return true;
  const isOpa = engine === 'opa';
  const peer = textOf(span.attributes, [...NAMES.peerService, ...NAMES.serverAddress, ...PEER_NAME]) ?? hostIn(span);
  if (peer !== undefined && (isOpa ? OPA_HOST : SPICEDB_HOST).test(peer)) return true;
  const port = countOf(span.attributes, PEER_PORT) ?? portIn(span);
  return (isOpa && port === OPA_PORT) || isListed(span, engine, hosts, port);
}

/**
 * What answers must show that it is the engine, since what is a check of another access has no record of its own. OPA's own spans
 * are named like the metrics of the handler (v1/server/server.go), and have the id of a decision that is logged.
 */
function isEngine(span: Span, engine: string, hosts: readonly CompiledHost[]): boolean {
  if (engine === 'opa' && (/^v[01]\/data$/.test(span.name) || span.attributes.has('opa.decision_id'))) return true;
  const service = textOf(span.resource.attributes, NAMES.serviceName) ?? '';
  if (engine === 'opa' ? OPA_HOST.test(service) : service.toLowerCase().includes(engine)) return true;
  return isListed(span, engine, hosts, countOf(span.attributes, PEER_PORT));
}

function isListed(span: Span, engine: string, hosts: readonly CompiledHost[], port: number | undefined): boolean {
  const host = textOf(span.attributes, [...NAMES.serverAddress, ...PEER_NAME]) ?? hostIn(span);
  const address = host?.replace(/:\d+$/, '');
  if (address === undefined) return false;
  return hosts.some(({ fits, engine: of }) => of === engine && (fits(address) || fits(`${address}:${port}`)));
}

function hostIn(span: Span): string | undefined {
  return /^[a-z][\w+.-]*:\/\/(?:[^/?#@]*@)?([^/?#]+)/i.exec(textOf(span.attributes, NAMES.urlFull) ?? '')?.[1];
}

function portIn(span: Span): number | undefined {
  const port = /:(\d{1,5})$/.exec(hostIn(span) ?? '')?.[1];
  return port === undefined ? undefined : Number(port);
}

/** The server's own span of a check (openfga pkg/server/check.go): `Check` with store_id, object, relation, user, allowed. */
function ofOpenFga({ attributes }: Span): CheckDraft | undefined {
  const permission = textOf(attributes, ['relation']);
  const target = textOf(attributes, ['object']);
  if (!attributes.has('store_id') || permission === undefined || target === undefined) return undefined;
  const allowed = attributes.get('allowed');
  return { engine: 'openfga', permission, target, ...(typeof allowed === 'boolean' && { granted: allowed }) };
}

/** SpiceDB's dispatch of a check (internal/dispatch/graph): `document#view` and the ids asked for; not how it ended. */
function ofSpiceDb({ attributes, name }: Span): CheckDraft | undefined {
  if (!name.startsWith('DispatchCheck')) return undefined;
  const asked = textOf(attributes, ['spicedb.internal.dispatch.resource_type']) ?? '';
  const [type = '', permission] = asked.split('#');
  const id = asText(attributes.get('spicedb.internal.dispatch.resource_ids'));
  if (permission === undefined) return undefined;
  return { engine: 'spicedb', permission, target: id === undefined ? type : `${type}:${id}` };
}

const CEDAR_DECISIONS: Readonly<Record<string, boolean>> = { allow: true, permit: true, deny: false, forbid: false };

/** Cedar evaluated in the service itself, as cedar4s and CedarSharp trace it. */
function ofCedar({ attributes }: Span): CheckDraft | undefined {
  const decision = textOf(attributes, ['cedar.decision'])?.toLowerCase();
  if (decision === undefined) return undefined;
  const text = (...names: string[]) => textOf(attributes, names);
  const [type, id] = [text('cedar.resource.type'), text('cedar.resource.id')];
  const typed = type !== undefined && id !== undefined ? `${type}::"${id}"` : (id ?? type);
  const draft: { -readonly [Key in keyof CheckDraft]: CheckDraft[Key] } = { engine: 'cedar' };
  const permission = text('cedar.action', 'cedar.action.name');
  const target = text('cedar.resource.uid', 'cedar.resource') ?? typed;
  const rule = text('cedar.policy_id');
  const reason = text('cedar.decision.deny_reason');
  if (permission !== undefined) draft.permission = permission;
  if (target !== undefined) draft.target = target;
  if (rule !== undefined) draft.rule = rule;
  if (reason !== undefined) draft.reason = reason;
  const granted = CEDAR_DECISIONS[decision];
  if (granted !== undefined) draft.granted = granted;
  return draft;
}
