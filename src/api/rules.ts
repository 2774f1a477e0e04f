import type { FastifyInstance } from 'fastify';
import type { RuleStatus } from '../core/alert.ts';
import { AppError } from '../core/errors.ts';
import type { RulesAnswer } from './rule-contract.ts';

/** Rules at work, and what is wrong with their files. */
export interface RuleDesk {
  rules(): readonly RuleStatus[];
  problems(): readonly string[];
  reload(): Promise<readonly string[]>;
}

/** `desk` is undefined when rules are switched off. */
export function addRuleRoutes(server: FastifyInstance, desk: RuleDesk | undefined): void {
  const answer = (): RulesAnswer => ({
    watching: desk !== undefined,
    rules: desk?.rules() ?? [],
    problems: desk?.problems() ?? [],
  });
  server.get('/api/v1/rules', async () => answer());
  server.post('/api/v1/rules/reload', async () => {
    if (desk === undefined) throw new AppError('bad_request', 'rules are switched off (detect.enabled)');
    await desk.reload();
    return answer();
  });
}
