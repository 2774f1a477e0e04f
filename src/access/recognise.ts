import { byKeys } from '../core/attribute-table.ts';
import { byContent } from '../core/by-content.ts';
import { type LogRecord, SPAN_KIND, type Span } from '../core/evidence.ts';
import type { Access, AccessDraft, AccessTarget, Verdict } from './access.ts';
import { clip, compact, NAMES, serviceOf, textOf } from './attributes.ts';
import { asAuthentication } from './authentication.ts';
import { engineCall } from './check-engines.ts';
import { readDatabase } from './database.ts';
import { type Draft, resultOfStatus, typesOf } from './draft.ts';
import { readFile, readObjectStore } from './file.ts';
import { readGenAi } from './gen-ai.ts';
import { readGraphql, STATED_OPERATION } from './graphql.ts';
import { clientSections, readHttpServer } from './http.ts';
import { identityOfAttributes, identityOfHeaders } from './identity.ts';
import { readLogEvent, timesOfEvent } from './log-event.ts';
import { logEventOf } from './mapped-event.ts';
import { readMessaging } from './messaging.ts';
import { readRpcServer } from './rpc.ts';
import { type AccessRules, eventNameOf, fillTemplate, findRule, fitsRule, type Subject } from './rules.ts';
import type { AddRule } from './settings.ts';

const CONTEXT: DraftVerdict & Verdict = { kind: 'context' };

/** What the rules say of what a span says: an access with all but whose span it is. */
export type DraftVerdict = { readonly kind: 'access'; readonly draft: Draft } | Exclude<Verdict, { kind: 'access' }>;

/** Decides whether a span is an access, and makes the draft of it. Pure: the same span and rules give the same verdict. */
export function recogniseSpan(span: Span, rules: AccessRules): Verdict {
  const verdict = judgeSpan(span, rules);
  return verdict.kind === 'access' ? { kind: 'access', access: accessOf(verdict.draft, span) } : verdict;
}

/** The same, without what only this span says: ids, times, its sender's name. */
export const judgeSpan = byContent((span: Span, rules: AccessRules): DraftVerdict => {
  if (isAnswerOfEngine(span, rules)) return CONTEXT;
  const subject = { evidence: span, span, headers: rules.identityHeaders, present: rules.presenceIn(span) };
  const draft = authenticated(subject, readSpan(span, rules), rules) ?? added(subject, rules);
  if (draft === undefined) return CONTEXT;
  return judge({ ...subject, draft }, draft, rules);
});

/** The access that a span with this draft is. */
export function accessOf(draft: Draft, span: Span): Access {
  const { preset, action, category, type, kind, target, outcome, decision, whySource, sections } = draft;
  const { spanId, startNs, endNs, note } = span;
  const evidence: Access['evidence'] = { signal: 'traces', source: preset, sender: note.sender, id: spanId };
  // Field by field: drafts have many shapes, and spreading those is a call into the runtime.
  const access: { -readonly [Key in keyof AccessDraft]: AccessDraft[Key] } & { source: 'span'; from: Span } = {
    preset,
    action,
    category,
    type,
    kind,
    target,
    outcome,
    decision,
    whySource,
    sections,
    source: 'span',
    from: span,
    spanId,
    ownId: '',
    evidence,
    startNs,
    endNs,
  };
  if (draft.reason !== undefined) access.reason = draft.reason;
  if (draft.error !== undefined) access.error = draft.error;
  if (draft.effective !== undefined) access.effective = draft.effective;
  if (draft.claimedAccount !== undefined) access.claimedAccount = draft.claimedAccount;
  if (draft.unstated !== undefined) access.unstated = draft.unstated;
  if (draft.actor !== undefined) access.actor = draft.actor;
  if (draft.rule !== undefined) access.rule = draft.rule;
  if (draft.checks !== undefined) access.checks = draft.checks;
  if (draft.purpose !== undefined) access.purpose = draft.purpose;
  if (draft.rows !== undefined) access.rows = draft.rows;
  if (draft.change !== undefined) access.change = draft.change;
  if (draft.outOfBand !== undefined) access.outOfBand = draft.outOfBand;
  return access;
}

/** That a policy engine was asked by somebody who is known is a check of their access, not an access. */
function isAnswerOfEngine(span: Span, { checks }: AccessRules): boolean {
  if (span.kind !== SPAN_KIND.server || span.parentSpanId === '' || !span.note.trusted) return false;
  return engineCall(span, checks.hosts) !== undefined;
}

/** Decides whether a log record states an access, and makes the draft of it. Pure. */
export function recogniseLog(log: LogRecord, rules: AccessRules, event = logEventOf(log, rules.mappings)): Verdict {
  const { evidence, mapped, unfit } = event;
  if (unfit !== undefined) return { kind: 'context', unfit };
  const subject = { evidence, headers: rules.identityHeaders, present: rules.presenceIn(evidence) };
  const draft =
    readLogEvent(evidence, findRule(rules.authentication, subject), rules, mapped?.source) ?? added(subject, rules);
  if (draft === undefined) return CONTEXT;
  const ownId = textOf(evidence.attributes, NAMES.eventId) ?? '';
  const signal = textOf(log.attributes, ['spantrail.via']) === 'access_api' ? 'access' : 'logs';
  const verdict = judge({ ...subject, draft }, draft, rules);
  if (verdict.kind !== 'access') return verdict;
  const ruled = verdict.draft;
  const access: Access = {
    ...ruled,
    source: 'event',
    from: log,
    spanId: log.spanId,
    ownId,
    evidence: { signal, source: ruled.preset, sender: log.note.sender, id: ownId },
    ...timesOfEvent(evidence),
  };
  return { kind: 'access', access };
}

function judge(subject: Subject, draft: Draft, rules: AccessRules): DraftVerdict {
  const excluded = findRule(rules.exclude, subject);
  if (excluded !== undefined && findRule(rules.include, subject) === undefined) {
    return { kind: 'excluded', rule: excluded.name };
  }
  const renamed = rename(subject, draft, rules);
  return { kind: 'access', draft: subject.evidence.note.trusted ? renamed : withoutClaims(renamed) };
}

interface Reader {
  /** Of a span without any of these it makes nothing. */
  readonly needs: readonly string[];
  readonly read: (span: Span, rules: AccessRules) => Draft | undefined;
}

/** Server spans can carry HTTP and RPC attributes at once: the narrower reading comes first. */
const READERS: readonly Reader[] = [
  { needs: [...NAMES.mcpMethod, ...NAMES.toolName], read: readGenAi },
  { needs: STATED_OPERATION, read: (span) => withoutHttp(span, readGraphql(span)) },
  { needs: [...NAMES.rpcSystem, ...NAMES.rpcMethod], read: readRpcServer },
  { needs: NAMES.httpMethod, read: readHttpServer },
  { needs: NAMES.dbSystem, read: readDatabase },
  { needs: [...NAMES.messagingDestination, ...NAMES.messagingSystem], read: readMessaging },
  { needs: [...NAMES.s3Bucket, ...NAMES.rpcSystem], read: readObjectStore },
  { needs: NAMES.filePath, read: readFile },
];

const readersFor = byKeys((keys) => READERS.filter(({ needs }) => needs.some((key) => keys.includes(key))));

function readSpan(span: Span, rules: AccessRules): Draft | undefined {
  for (const { read } of readersFor(span.attributes)) {
    const draft = read(span, rules);
    if (draft !== undefined) return draft;
  }
  return undefined;
}

/** An operation told on the request's own span is that request's: it is read with what HTTP says. */
function withoutHttp(span: Span, operation: Draft | undefined): Draft | undefined {
  return span.attributes.has('http.request.method') || span.attributes.has('http.method') ? undefined : operation;
}

/** Turns what the rules call an authentication into one, and notes whose account a refused caller claimed. */
function authenticated(
  subject: Subject & { readonly span: Span },
  draft: Draft | undefined,
  rules: AccessRules,
): Draft | undefined {
  const { span } = subject;
  const rule = findRule(rules.authentication, subject);
  const isRefused = draft?.outcome === 'failure' && draft.category.includes('authentication');
  if (rule === undefined && !isRefused) return draft;
  const account =
    identityOfAttributes(span.attributes) ?? identityOfHeaders(span.attributes, rules.identityHeaders)?.identity;
  if (rule === undefined) {
    const claimed = draft?.claimedAccount ?? account?.id;
    return draft && (claimed === undefined ? draft : { ...draft, claimedAccount: claimed });
  }
  const base = draft ?? plainDraft(span, 'auth', span.name, { type: 'endpoint', id: endpointOf(span) });
  const own = textOf(span.attributes, NAMES.eventAction) ?? eventNameOf(span)?.split('.').at(-1);
  return asAuthentication(base, rule.action ?? own ?? base.action, account);
}

function endpointOf(span: Span): string {
  return clip([serviceOf(span), span.name].filter(Boolean).join(' '));
}

/** An access of which only the status of the span is known. */
function plainDraft(span: Span, preset: string, action: string, target: AccessTarget): Draft {
  const result = resultOfStatus(span);
  return {
    preset,
    action,
    category: [],
    type: typesOf('access', result),
    kind: 'event',
    target,
    ...result,
    sections: span.kind === SPAN_KIND.server ? clientSections(span) : {},
  };
}

/** The access that an `add` rule makes of evidence that is none by default. */
function added(subject: Subject, rules: AccessRules): Draft | undefined {
  const rule = findRule(rules.add, subject);
  if (rule === undefined) return undefined;
  const { evidence, span } = subject;
  const fallback = span?.name ?? eventNameOf(evidence) ?? rule.name;
  const preset = `rule.${rule.name}`;
  const action = fillTemplate(rule.action, subject) ?? fallback;
  const target = addedTarget(rule, subject, fallback);
  const draft = span
    ? plainDraft(span, preset, action, target)
    : {
        ...{ preset, action, target, kind: 'event', outcome: 'unknown' as const, decision: 'none' as const },
        ...{ whySource: 'none' as const, sections: {}, type: ['access'], category: [] },
        ...compact({ actor: identityOfAttributes(evidence.attributes) }),
      };
  const denied = draft.type.filter((type) => type === 'denied');
  return { ...draft, category: rule.category ?? ['api'], type: [...(rule.type ?? ['access']), ...denied] };
}

function addedTarget(rule: AddRule, subject: Subject, fallback: string): AccessTarget {
  return compact({
    type: fillTemplate(rule.target.type, subject) ?? 'resource',
    id: fillTemplate(rule.target.id, subject) ?? fallback,
    name: rule.target.name === undefined ? undefined : fillTemplate(rule.target.name, subject),
    service: serviceOf(subject.evidence),
  });
}

/** Applies every rename rule that fits, in order. A template that asks for a value that is not there changes nothing. */
function rename(subject: Subject, draft: Draft, rules: AccessRules): Draft {
  let renamed = draft;
  for (const compiled of rules.rename) {
    const current = { ...subject, draft: renamed };
    if (!fitsRule(compiled, current)) continue;
    const { action, target = {} } = compiled.rule;
    const fill = (template: string | undefined) => template && fillTemplate(template, current);
    renamed = {
      ...renamed,
      action: fill(action) ?? renamed.action,
      target: {
        ...renamed.target,
        ...compact({ type: fill(target.type), id: fill(target.id), name: fill(target.name) }),
      },
    };
  }
  return renamed;
}

/** What is left of an access that a sender without trust reports: the context, but nothing that it decides or accuses. */
function withoutClaims(draft: Draft): Draft {
  const { preset, action, category, kind, target, sections, error, unstated } = draft;
  return {
    ...compact({ preset, action, category, kind, target, sections, error, unstated }),
    type: draft.type.filter((type) => type !== 'denied' && type !== 'allowed'),
    outcome: 'unknown',
    decision: 'none',
    whySource: 'none',
  };
}
