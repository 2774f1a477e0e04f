import type { CheckSettings } from '../access/check-settings.ts';
import { recogniseLog } from '../access/recognise.ts';
import { compileRules } from '../access/rules.ts';
import { type AccessSettings, DEFAULT_ACCESS_SETTINGS } from '../access/settings.ts';
import type { Settings } from '../config/schema.ts';
import type { Observe } from '../core/coverage.ts';
import type { Examine, LogRecord } from '../core/evidence.ts';
import type { Settle, SettleSteps } from '../core/settlement.ts';
import { observe } from '../coverage/observe.ts';
import { createExamine, isSilent } from '../enrich/examine.ts';
import { createSettle, createSettleSteps } from '../enrich/settle.ts';
import { TraceForms } from '../enrich/trace-forms.ts';
import { ENRICH_KEYS } from '../enrich/where.ts';
import { compileKeys, type KeySet } from '../otlp/key-set.ts';
import { mappingsOf } from './mappings.ts';
import { createCleanCheck } from './redaction.ts';

/** What turns evidence into records, compiled once from the settings; each worker makes its own. */
export interface Settling {
  readonly settle: Settle;
  readonly settleSteps: SettleSteps;
  readonly examine: Examine;
  readonly keys: KeySet;
  readonly isAccessLog: (log: LogRecord) => boolean;
  /** Traces that say the same as others; of one shard. */
  readonly forms: TraceForms;
  /** Absent while coverage is not watched. */
  readonly observe?: Observe;
}

export type SettlingSettings = Pick<
  Settings,
  'access' | 'enrich' | 'coverage' | 'mappings' | 'presets' | 'identity' | 'checks' | 'purpose' | 'origin' | 'redact'
>;

/** The part of the settings that a worker needs. */
export function settlingSettings(settings: Settings): SettlingSettings {
  const { access, enrich, coverage, mappings, presets, identity, checks, purpose, origin, redact } = settings;
  return { access, enrich, coverage, mappings, presets, identity, checks, purpose, origin, redact };
}

/** Throws AppError('config') that names the rule. */
export function createSettling(settings: SettlingSettings): Settling {
  const rules = compileRules(accessSettings(settings));
  const enrich = { traceUrlTemplate: settings.enrich.traceUrlTemplate ?? '' };
  return {
    settle: createSettle(rules, enrich),
    settleSteps: createSettleSteps(rules, enrich),
    examine: createExamine(rules),
    keys: compileKeys([...rules.keys, ...ENRICH_KEYS], rules.logKeys),
    forms: new TraceForms({
      isSecret: rules.isSecret,
      isClean: createCleanCheck(settings),
      isSilent: (log) => isSilent(log, rules),
    }),
    isAccessLog: (log) => recogniseLog(log, rules).kind === 'access',
    ...(settings.coverage.enabled ? { observe } : {}),
  };
}

/** All that recognition goes by. Throws AppError('config') for a preset that there is not. */
export function accessSettings(settings: SettlingSettings): AccessSettings {
  return {
    ...toAccessSettings(settings.access, settings.identity),
    checks: toCheckSettings(settings.checks),
    purpose: settings.purpose,
    origin: settings.origin,
    ...mappingsOf(settings),
  };
}

function toAccessSettings(access: Settings['access'], identity: Settings['identity']): AccessSettings {
  const base = DEFAULT_ACCESS_SETTINGS;
  const named = <T extends object>(list: readonly T[], key: string) =>
    list.map((rule, index) => ({ name: `access.${key}.${index}`, ...compact(rule) }));
  return {
    include: [...named(access.include, 'include'), ...base.include],
    exclude: [...named(access.exclude, 'exclude'), ...(access.defaults ? base.exclude : [])],
    rename: named(access.rename, 'rename').map(({ target, ...rule }) => ({
      ...rule,
      ...(target ? { target: compact(target) } : {}),
    })),
    add: named(access.add, 'add').map(({ target, ...rule }) => ({ ...rule, target: compact(target) })),
    authentication: [...named(access.authentication, 'authentication'), ...base.authentication],
    accessEvents: [...access.accessEvents, ...base.accessEvents],
    identityHeaders: access.identityHeaders ?? base.identityHeaders,
    claims: identity.claims,
    baggageUsers: identity.baggageUsers,
    // The session before this one is not this one's.
    sessionAttributes: identity.sessions.attributes.filter((name) => !name.includes('previous')),
    secretParameters: base.secretParameters,
  };
}

function toCheckSettings({ rules, roleTables, hosts }: Settings['checks']): CheckSettings {
  return { rules: rules.map(compact), roleTables: roleTables.map(compact), hosts };
}

type Compact<T> = { [Key in keyof T]: Exclude<T[Key], undefined> };

/** Without the keys whose value is undefined, which optional settings may hold and stages' types do not. */
function compact<T extends object>(value: T): Compact<T> {
  return Object.fromEntries(Object.entries(value).filter(([, entry]) => entry !== undefined)) as Compact<T>;
}
