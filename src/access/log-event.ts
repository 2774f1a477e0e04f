import type { Attributes, LogRecord } from '../core/evidence.ts';
import type { Check, Decision, Outcome, WhySource } from '../core/record.ts';
import type { AccessSections, AccessTarget } from './access.ts';
import {
  clip,
  compact,
  countOf,
  type ErrorText,
  exceptionOf,
  ipOf,
  listOf,
  NAMES,
  section,
  serviceOf,
  textOf,
} from './attributes.ts';
import { asAuthentication } from './authentication.ts';
import { readGranted } from './checks.ts';
import { type Draft, joined } from './draft.ts';
import { instantOf } from './event-times.ts';
import { typeOfOperation } from './file.ts';
import { identityOfAttributes } from './identity.ts';
import { asJsonText, checksOf } from './log-fields.ts';
import { isExplicit } from './mapped-event.ts';
import { operationNamed, tellingStatement } from './operation.ts';
import { clientInList } from './origin.ts';
import { placeSections } from './place-fields.ts';
import { foldPath, redactQuery } from './route.ts';
import { type AccessRules, CATEGORIES, eventNameOf, TYPES } from './rules.ts';
import type { AuthenticationRule } from './settings.ts';

const KINDS = new Set(['alert', 'asset', 'enrichment', 'event', 'metric', 'state', 'signal']);

/** What an event calls its outcome or decision, in the record's three values each. */
const OUTCOMES: readonly (readonly [RegExp, Outcome])[] = [
  [/^(?:success|succeeded|successful|ok|true|allow(?:ed)?|granted|permitted)$/i, 'success'],
  [/^(?:fail(?:ure|ed)?|error|false|den(?:y|ied)|refused|rejected|forbidden|unauthorized|blocked)$/i, 'failure'],
];
const DECISIONS: readonly (readonly [RegExp, Decision])[] = [
  [/^(?:allow(?:ed)?|grant(?:ed)?|permit(?:ted)?|true)$/i, 'allow'],
  [/^(?:den(?:y|ied)|refused?|reject(?:ed)?|forbid(?:den)?|block(?:ed)?|false)$/i, 'deny'],
];

function pick<T>(table: readonly (readonly [RegExp, T])[], text: string | undefined): T | undefined {
  return text === undefined ? undefined : table.find(([pattern]) => pattern.test(text))?.[1];
}

/**
 * A log record that states an access: by a mapping, by the name of its event, by `audit.*` fields, or as an authentication by a
 * rule. Its attributes hold the fields of its body already, or what the mapping made of it; `source` names the mapping.
 */
export function readLogEvent(
  log: LogRecord,
  authentication: AuthenticationRule | undefined,
  rules: AccessRules,
  source?: string,
): Draft | undefined {
  const fields = log.attributes;
  const eventName = eventNameOf(log);
  if (source === undefined && authentication === undefined && !isExplicit(log, rules)) return undefined;
  const stated = textOf(fields, [...NAMES.eventAction, 'audit.action']);
  const segment = eventName?.split('.').at(-1);
  const result = resultOfEvent(fields, eventName, authentication !== undefined);
  const sections = sectionsOf(fields, rules);
  const named = segment === 'audit' ? undefined : segment;
  const done = sections.db?.operation ?? sections.http?.request?.method;
  const action = stated ?? authentication?.action ?? named ?? done ?? 'access';
  const target = statedTarget(fields);
  const service = serviceOf(log) ?? sections.service?.name;
  const draft = eventDraft(fields, { action, result, sections, target, eventName: eventName ?? action, service });
  const account = identityOfAttributes(fields);
  const known = authentication
    ? asAuthentication(draft, action, account, target !== undefined)
    : claiming(draft, account);
  const unstated = [
    ...(stated === undefined && authentication?.action === undefined ? (['action'] as const) : []),
    ...(target === undefined && known.target.type !== 'account' ? (['target'] as const) : []),
    ...(authentication === undefined && !listOf(fields, NAMES.eventCategory) ? (['category'] as const) : []),
    ...(authentication === undefined && !listOf(fields, NAMES.eventType) ? (['type'] as const) : []),
  ];
  const login = textOf(fields, NAMES.dbUser);
  return compact({
    ...known,
    preset: source ?? known.preset,
    target: compact({ ...known.target, service: known.target.service ?? service }),
    actor: account,
    effective: login === undefined || login === account?.id ? undefined : { name: login },
    outOfBand: textOf(fields, ['audit.out_of_band']) === 'true' ? true : undefined,
    error: errorOfEvent(log),
    unstated: unstated.length > 0 ? unstated : undefined,
  });
}

/** Whom a request names that was answered 401 is claimed, as on spans. */
function claiming(draft: Draft, account: Draft['actor']): Draft {
  if (draft.sections.http?.response?.status_code !== 401 || draft.outcome !== 'failure') return draft;
  const category = [...new Set([...draft.category, 'authentication'])];
  return compact({ ...draft, category, claimedAccount: account?.id });
}

/** The checks that an event lists, and the one that it is about itself. */
function statedChecks(fields: Attributes): readonly Check[] | undefined {
  const listed = checksOf(fields.get('audit.checks'));
  const granted = readGranted(textOf(fields, ['audit.check.granted']));
  if (granted === undefined) return listed;
  const own: Check = compact({
    permission: textOf(fields, ['audit.check.permission']),
    target: textOf(fields, ['audit.check.target']),
    granted,
    rule: textOf(fields, ['audit.check.rule']),
    span_id: textOf(fields, ['audit.check.span_id']),
    duration: countOf(fields, ['audit.check.duration']),
    engine: textOf(fields, ['audit.check.engine']),
  });
  return listed === undefined ? [own] : [own, ...listed];
}

interface EventResult {
  readonly outcome: Outcome;
  readonly decision: Decision;
  readonly whySource: WhySource;
}

function resultOfEvent(fields: Attributes, eventName: string | undefined, isAuthentication: boolean): EventResult {
  const types = listOf(fields, NAMES.eventType) ?? [];
  const saidOutcome = textOf(fields, NAMES.eventOutcome);
  const implied = /fail|denied|refused|invalid|reject/i.test(eventName ?? '')
    ? ('failure' as const)
    : /succe/i.test(eventName ?? '')
      ? ('success' as const)
      : undefined;
  const given =
    pick(DECISIONS, textOf(fields, ['audit.decision'])) ??
    (types.includes('denied') || saidOutcome === 'denied' ? 'deny' : types.includes('allowed') ? 'allow' : undefined);
  const outcome = pick(OUTCOMES, saidOutcome) ?? (given === 'deny' ? 'failure' : implied) ?? 'unknown';
  // Whoever fails to authenticate is refused.
  const decision = given ?? (isAuthentication && outcome === 'failure' ? 'deny' : 'none');
  const hasRule = textOf(fields, [...NAMES.ruleId, ...NAMES.ruleName]) !== undefined;
  const hasReason = textOf(fields, NAMES.eventReason) !== undefined;
  const whySource = hasRule ? 'rule' : statedChecks(fields) ? 'check' : hasReason ? 'status' : 'none';
  return { outcome, decision, whySource };
}

interface EventParts {
  readonly action: string;
  readonly result: EventResult;
  readonly sections: AccessSections;
  readonly target: AccessTarget | undefined;
  readonly eventName: string;
  readonly service: string | undefined;
}

function eventDraft(fields: Attributes, parts: EventParts): Draft {
  const { action, result, sections, target, eventName, service } = parts;
  const kind = textOf(fields, NAMES.eventKind);
  const statedTypes = listOf(fields, NAMES.eventType)?.filter((type) => TYPES.has(type)) ?? [];
  const statedCategories = listOf(fields, NAMES.eventCategory)?.filter((category) => CATEGORIES.has(category)) ?? [];
  const decided = result.decision === 'deny' ? ['denied'] : result.decision === 'allow' ? ['allowed'] : [];
  return compact({
    preset: 'log.access',
    action,
    category: statedCategories.length > 0 ? statedCategories : [impliedCategory(sections)],
    type: [...new Set([...(statedTypes.length > 0 ? statedTypes : impliedTypes(sections, action)), ...decided])],
    kind: kind !== undefined && KINDS.has(kind) ? kind : 'event',
    target: target ?? impliedTarget(sections, eventName, service),
    ...result,
    reason: textOf(fields, NAMES.eventReason),
    rule: section({ id: textOf(fields, NAMES.ruleId), name: textOf(fields, NAMES.ruleName) }),
    checks: statedChecks(fields),
    purpose: textOf(fields, ['audit.purpose']),
    rows: countOf(fields, ['audit.rows']),
    change: section({
      before: asJsonText(fields.get('audit.change.before')),
      after: asJsonText(fields.get('audit.change.after')),
    }),
    sections,
  });
}

function statedTarget(fields: Attributes): AccessTarget | undefined {
  const name = textOf(fields, ['audit.target.name']);
  const id = textOf(fields, ['audit.target.id']) ?? name;
  if (id === undefined) return undefined;
  const type = textOf(fields, ['audit.target.type']) ?? 'resource';
  return compact({ type, id, name, service: textOf(fields, ['audit.target.service']) });
}

/** Named as the target of a span that says the same, so that both are found together. */
function impliedTarget(
  { db, file, http, url }: AccessSections,
  eventName: string,
  service: string | undefined,
): AccessTarget {
  if (db?.collection !== undefined || db?.namespace !== undefined) {
    const name = [db.namespace, db.collection].filter(Boolean).join('.');
    const type = db.collection === undefined ? 'database' : 'table';
    return { type, id: clip([db.system, name].filter(Boolean).join('/')), name };
  }
  if (file?.path !== undefined) return { type: 'file', id: file.path };
  const place = http?.route ?? (url?.path === undefined ? undefined : foldPath(url.path));
  if (place === undefined) return { type: 'event', id: eventName };
  const at = service ?? url?.domain;
  return { type: 'endpoint', id: joined(at, place), name: joined(at, http?.request?.method, place) };
}

const TYPE_BY_METHOD: Readonly<Record<string, string>> = { PUT: 'change', PATCH: 'change', DELETE: 'deletion' };

function impliedTypes({ db, http }: AccessSections, action: string): readonly string[] {
  if (db?.operation !== undefined) return operationNamed(db.operation).types;
  const method = http?.request?.method;
  return [method === undefined ? typeOfOperation(action) : (TYPE_BY_METHOD[method] ?? 'access')];
}

function impliedCategory({ db, file, http, url }: AccessSections): string {
  return db ? 'database' : file ? 'file' : http || url ? 'web' : 'api';
}

function sectionsOf(fields: Attributes, { isSecret, origin }: AccessRules): AccessSections {
  const text = (names: readonly string[]) => textOf(fields, names);
  const system = text(NAMES.dbSystem);
  const sent = text(NAMES.dbStatement);
  const statement = sent === undefined ? undefined : tellingStatement(sent, system ?? '');
  const query = text(NAMES.urlQuery);
  const ip = clientInList(fields.get('source.ip'), origin) ?? ipOf(text([...NAMES.sourceIp, ...NAMES.clientAddress]));
  const agent = text(NAMES.userAgent);
  const tool = text(NAMES.toolName);
  return compact({
    ...placeSections(fields),
    http: httpSection(fields),
    url: section({
      path: text(NAMES.urlPath),
      query: query === undefined ? undefined : redactQuery(query, isSecret),
      domain: domainOf(text(['url.domain', ...NAMES.serverAddress])),
      scheme: text(NAMES.urlScheme),
    }),
    db: section({
      system,
      namespace: text(NAMES.dbNamespace),
      collection: text(NAMES.dbCollection) ?? statement?.table,
      operation: operationIn(text(NAMES.dbOperation), statement?.operation),
      statement: statement?.text,
      status_code: text(NAMES.dbStatus),
    }),
    file: section({ path: text(NAMES.filePath) }),
    gen_ai: tool === undefined ? undefined : { tool: { name: tool } },
    source:
      ip === undefined ? undefined : compact({ ip, port: countOf(fields, [...NAMES.sourcePort, ...NAMES.clientPort]) }),
    user_agent: agent === undefined ? undefined : { original: agent },
  });
}

/** `SET ROLE` tells more than `SET`. */
function operationIn(stated: string | undefined, read: string | undefined): string | undefined {
  const isMore = stated === undefined || read?.toUpperCase().startsWith(`${stated.toUpperCase()} `);
  const telling = isMore ? read : stated;
  return telling === undefined ? undefined : operationNamed(telling).operation;
}

function errorOfEvent(log: LogRecord): ErrorText | undefined {
  const { attributes } = log;
  const stated = { type: textOf(attributes, NAMES.errorType), message: textOf(attributes, NAMES.errorMessage) };
  return exceptionOf(log) ?? section(stated);
}

function domainOf(address: string | undefined): string | undefined {
  return address?.replace(/:\d+$/, '');
}

function httpSection(fields: Attributes): AccessSections['http'] {
  const method = textOf(fields, NAMES.httpMethod)?.toUpperCase();
  const [sent, answered] = [countOf(fields, NAMES.httpRequestBytes), countOf(fields, NAMES.httpResponseBytes)];
  const bytes = (count: number | undefined) => (count === undefined ? undefined : { bytes: count });
  return section({
    request: section({ method, body: bytes(sent) }),
    response: section({ status_code: countOf(fields, NAMES.httpStatus), body: bytes(answered) }),
    route: textOf(fields, NAMES.httpRoute),
  });
}

/** How far ahead of the time at which it was observed an event may lie: clocks and zones may be off, but not by more. */
const AHEAD_NS_MAX = 86_400_000_000_000n;

/**
 * Start and end, epoch nanoseconds. Stated ones come first; `@timestamp` is the start. Else an event is written when it is over, so
 * that a stated duration ends at its time. What lies far in the future is not believed.
 */
export function timesOfEvent(log: LogRecord): { readonly startNs: bigint; readonly endNs: bigint } {
  const { attributes } = log;
  const observedNs = log.observedNs || log.timeNs || log.note.receivedNs;
  const stated = (name: string): bigint | undefined => {
    const instantNs = attributes.has(name) ? instantOf(attributes.get(name)) : undefined;
    return instantNs === undefined || instantNs > observedNs + AHEAD_NS_MAX ? undefined : instantNs;
  };
  const durationNs = BigInt(countOf(attributes, NAMES.eventDuration) ?? 0);
  const startNs = stated('event.start') ?? stated('@timestamp');
  const endNs = stated('event.end') ?? (startNs === undefined ? undefined : startNs + durationNs);
  const knownEndNs = endNs ?? (log.timeNs || log.observedNs || log.note.receivedNs);
  return { startNs: startNs ?? knownEndNs - durationNs, endNs: knownEndNs };
}
