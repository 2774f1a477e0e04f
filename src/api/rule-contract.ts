import type { RuleStatus } from '../core/alert.ts';
import type { Route } from './route.ts';

export interface RulesAnswer {
  /** False when rules are switched off. */
  readonly watching: boolean;
  readonly rules: readonly RuleStatus[];
  /** Mistakes in the rule files as they are now, each with file, line and field; the last good rules are at work then. */
  readonly problems: readonly string[];
}

export const RULE_ROUTES: readonly Route[] = [
  {
    path: '/api/v1/rules',
    summary: 'Rules at work: what they matched, what they remember, what is wrong with their files',
    answers: 'json',
    needs: 'read',
    record: { action: 'list', target: 'rules' },
  },
  {
    method: 'POST',
    path: '/api/v1/rules/reload',
    summary: 'Reads the rule files again; when they have mistakes, the last good rules stay',
    answers: 'json',
    needs: 'operate',
    record: { action: 'reload', target: 'rules' },
  },
];
