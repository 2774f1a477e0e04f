import { resolve } from 'node:path';
import type { Settings } from '../config/schema.ts';
import type { Alert } from '../core/alert.ts';
import { AppError } from '../core/errors.ts';
import type { AuditRecord } from '../core/record.ts';
import { Engine } from '../detect/engine.ts';
import type { Rule } from '../detect/rule.ts';
import { describeProblem } from '../detect/rule-file.ts';
import { subjectOf } from '../detect/subject.ts';
import { printQuery } from '../query/print.ts';
import { loadRules } from './rule-files.ts';

export interface RuleTest {
  readonly records: number;
  readonly matches: number;
  /** In the order in which they would have been raised; `raisedAt` is the time of the access that did it. */
  readonly alerts: readonly Alert[];
}

/** Longest query that a server takes; beyond it everything is asked for. */
const QUERY_CHARS_MAX = 8_000;

/**
 * What rules would have raised over stored records, given in the order of their time. State begins empty: what happened before
 * the first record is not known, so `new_terms` and `baseline` learn first, as they do on a new Spantrail.
 */
export async function testRules(
  rules: readonly Rule[],
  records: AsyncIterable<AuditRecord>,
  { latenessMs, groupsMax, entriesMax, termsMax }: Settings['detect'],
): Promise<RuleTest> {
  const engine = new Engine(
    rules.map((rule) => ({ ...rule, enabled: true })),
    {
      limits: { latenessMs, groupsMax, entriesMax, termsMax },
      onFailure: (rule, reason) => {
        throw new AppError('internal', `rule ${rule.id} failed: ${reason}`);
      },
    },
  );
  const alerts = new Map<string, Alert>();
  let seen = 0;
  for await (const record of records) {
    seen++;
    const subject = subjectOf(record);
    engine.observe(subject);
    engine.takeChanges();
    for (const alert of engine.alerts(subject.timeMs)) {
      alerts.set(alert.id, { ...alert, raisedAt: alerts.get(alert.id)?.raisedAt ?? alert.raisedAt });
    }
    engine.forgetAlerts();
  }
  const matches = engine.statuses().reduce((sum, status) => sum + status.matches, 0);
  return { records: seen, matches, alerts: [...alerts.values()] };
}

/** Which stored records need to be looked at, and whether inner accesses are among them. */
export function recordsFor(rules: readonly Rule[]): { readonly q: string; readonly inner: boolean } {
  const queries = rules.flatMap((rule) => [
    rule.query,
    ...(rule.type === 'threshold' && rule.followedBy !== undefined ? [rule.followedBy] : []),
  ]);
  const q = queries.map((query) => `(${printQuery(query)})`).join(' or ');
  return { q: q.length > QUERY_CHARS_MAX ? '*' : q, inner: rules.some(({ inner }) => inner) };
}

/** Rules of a file, or the rule of this id among those that the settings name. Throws AppError with every mistake. */
export async function rulesToTest(fileOrId: string, settings: Settings): Promise<readonly Rule[]> {
  const isFile = /[/\\]|\.ya?ml$/.test(fileOrId);
  const { rules, problems } = await loadRules(settings.detect, isFile ? [fileOrId] : undefined);
  if (isFile && problems.length > 0) throw new AppError('bad_request', problems.map(describeProblem).join('\n'));
  const chosen = isFile ? rules : rules.filter(({ id }) => id === fileOrId);
  if (chosen.length === 0) {
    const known = rules.map(({ id }) => id).join(', ');
    throw new AppError(
      'not_found',
      isFile ? `${fileOrId}: has no rule` : `there is no rule "${fileOrId}"; there are: ${known || 'none'}`,
    );
  }
  const pipeline = chosen.find(({ source }) => source === 'pipeline');
  if (pipeline !== undefined && chosen.length === 1) {
    throw new AppError('bad_request', `rule ${pipeline.id} is about the pipeline itself, of which nothing is stored`);
  }
  return chosen.filter(({ source }) => source === 'records');
}

/**
 * What is wrong with these files, or with those that the settings name; and how many rules there are. A rule of a file whose id one
 * of the settings' rules has is told, too: beside each other one of them would not be at work.
 */
export async function checkRules(
  files: readonly string[],
  settings: Settings,
): Promise<{ readonly rules: readonly Rule[]; readonly problems: readonly string[] }> {
  if (files.length === 0) {
    const { rules, problems } = await loadRules(settings.detect);
    return { rules, problems: problems.map(describeProblem) };
  }
  const { rules, problems, files: paths } = await loadRules(settings.detect, files);
  const checked = new Set(paths.map((path) => resolve(path)));
  const atWork = await loadRules(settings.detect);
  const others = await loadRules(
    settings.detect,
    atWork.files.filter((path) => !checked.has(resolve(path))),
  );
  const places = new Map(others.rules.map(({ id, place }) => [id, place]));
  const taken = rules.flatMap(({ id, place }) =>
    places.has(id) ? [`${place}:1: rule ${id}, id: a rule in ${places.get(id)} has it; each needs its own`] : [],
  );
  return { rules, problems: [...problems.map(describeProblem), ...taken] };
}
