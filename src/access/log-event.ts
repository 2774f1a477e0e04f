import type { Attributes, LogRecord } from '../core/evidence.ts';
import type { Decision, Outcome, WhySource } from '../core/record.ts';
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
import type { Draft } from './draft.ts';
import { typeOfOperation } from './file.ts';
import { identityOfAttributes } from './identity.ts';
import { asJsonText, checksOf } from './log-fields.ts';
import { redactQuery } from './route.ts';
import { type AccessRules, CATEGORIES, eventNameOf, TYPES } from './rules.ts';
import type { AuthenticationRule } from './settings.ts';
import { readStatement } from './statement.ts';

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
 * A log record that states an access: by the name of its event, by `audit.*` fields, or as an authentication by a rule. Its attributes
 * hold the fields of its body already.
 */
export function readLogEvent(
  log: LogRecord,
  authentication: AuthenticationRule | undefined,
  rules: AccessRules,
): Draft | undefined {
  const fields = log.attributes;
  const eventName = eventNameOf(log);
  const named = eventName !== undefined && rules.isAccessEvent(eventName);
  if (authentication === undefined && !named && !hasAuditFields(fields)) return undefined;
  const stated = textOf(fields, [...NAMES.eventAction, 'audit.action']);
  const segment = eventName?.split('.').at(-1);
  const action = stated ?? authentication?.action ?? (segment === 'audit' ? undefined : segment) ?? 'access';
  const result = resultOfEvent(fields, eventName, authentication !== undefined);
  const sections = sectionsOf(fields, rules);
  const target = statedTarget(fields);
  const draft = eventDraft(fields, { action, result, sections, target, eventName: eventName ?? action });
  const account = identityOfAttributes(fields);
  const known = authentication ? asAuthentication(draft, action, account, target !== undefined) : draft;
  const unstated = [
    ...(stated === undefined && authentication?.action === undefined ? (['action'] as const) : []),
    ...(target === undefined && known.target.type !== 'account' ? (['target'] as const) : []),
    ...(authentication === undefined && !listOf(fields, NAMES.eventCategory) ? (['category'] as const) : []),
    ...(authentication === undefined && !listOf(fields, NAMES.eventType) ? (['type'] as const) : []),
  ];
  const service = known.target.service ?? serviceOf(log);
  return compact({
    ...known,
    target: compact({ ...known.target, service }),
    actor: account,
    error: errorOfEvent(log),
    unstated: unstated.length > 0 ? unstated : undefined,
  });
}

/** `audit.check.*` belongs to a check that is evidence by itself, not to an access. */
function hasAuditFields(fields: Attributes): boolean {
  for (const name of fields.keys()) if (name.startsWith('audit.') && !name.startsWith('audit.check.')) return true;
  return false;
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
  const whySource = hasRule ? 'rule' : checksOf(fields.get('audit.checks')) ? 'check' : hasReason ? 'status' : 'none';
  return { outcome, decision, whySource };
}

interface EventParts {
  readonly action: string;
  readonly result: EventResult;
  readonly sections: AccessSections;
  readonly target: AccessTarget | undefined;
  readonly eventName: string;
}

function eventDraft(fields: Attributes, { action, result, sections, target, eventName }: EventParts): Draft {
  const kind = textOf(fields, NAMES.eventKind);
  const statedTypes = listOf(fields, NAMES.eventType)?.filter((type) => TYPES.has(type)) ?? [];
  const statedCategories = listOf(fields, NAMES.eventCategory)?.filter((category) => CATEGORIES.has(category)) ?? [];
  const decided = result.decision === 'deny' ? ['denied'] : result.decision === 'allow' ? ['allowed'] : [];
  return compact({
    preset: 'log.access',
    action,
    category: statedCategories.length > 0 ? statedCategories : [impliedCategory(sections)],
    type: [...new Set([...(statedTypes.length > 0 ? statedTypes : [typeOfOperation(action)]), ...decided])],
    kind: kind !== undefined && KINDS.has(kind) ? kind : 'event',
    target: target ?? impliedTarget(sections, eventName),
    ...result,
    reason: textOf(fields, NAMES.eventReason),
    rule: section({ id: textOf(fields, NAMES.ruleId), name: textOf(fields, NAMES.ruleName) }),
    checks: checksOf(fields.get('audit.checks')),
    purpose: textOf(fields, ['audit.purpose']),
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

function impliedTarget({ db, file, http, url }: AccessSections, eventName: string): AccessTarget {
  if (db?.collection !== undefined) {
    const name = [db.namespace, db.collection].filter(Boolean).join('.');
    return { type: 'table', id: clip([db.system, name].filter(Boolean).join('/')), name };
  }
  if (file?.path !== undefined) return { type: 'file', id: file.path };
  const place = http?.route ?? url?.path;
  return place === undefined ? { type: 'event', id: eventName } : { type: 'endpoint', id: place };
}

function impliedCategory({ db, file, http, url }: AccessSections): string {
  return db ? 'database' : file ? 'file' : http || url ? 'web' : 'api';
}

function sectionsOf(fields: Attributes, { isSecret }: AccessRules): AccessSections {
  const text = (names: readonly string[]) => textOf(fields, names);
  const system = text(NAMES.dbSystem);
  const sent = text(NAMES.dbStatement);
  const statement = sent === undefined ? undefined : readStatement(sent, system ?? '');
  const query = text(NAMES.urlQuery);
  const ip = ipOf(text([...NAMES.sourceIp, ...NAMES.clientAddress]));
  const agent = text(NAMES.userAgent);
  const tool = text(NAMES.toolName);
  return compact({
    http: section({
      request: section({ method: text(NAMES.httpMethod) }),
      response: section({ status_code: countOf(fields, NAMES.httpStatus) }),
      route: text(NAMES.httpRoute),
    }),
    url: section({ path: text(NAMES.urlPath), query: query === undefined ? undefined : redactQuery(query, isSecret) }),
    db: section({
      system,
      namespace: text(NAMES.dbNamespace),
      collection: text(NAMES.dbCollection) ?? statement?.table,
      operation: text(NAMES.dbOperation) ?? statement?.operation,
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

function errorOfEvent(log: LogRecord): ErrorText | undefined {
  const { attributes } = log;
  const stated = { type: textOf(attributes, NAMES.errorType), message: textOf(attributes, NAMES.errorMessage) };
  return exceptionOf(log) ?? section(stated);
}

/** Start and end, epoch nanoseconds. An event is written when it is over, so a stated duration ends at its time. */
export function timesOfEvent(log: LogRecord): { readonly startNs: bigint; readonly endNs: bigint } {
  const endNs = log.timeNs || log.observedNs || log.note.receivedNs;
  const durationNs = countOf(log.attributes, NAMES.eventDuration) ?? 0;
  return { startNs: endNs - BigInt(durationNs), endNs };
}
