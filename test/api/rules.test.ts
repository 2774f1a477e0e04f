import { describe, expect, it } from 'vitest';
import { createApi } from '../../src/api/server.ts';
import type { RuleStatus } from '../../src/core/alert.ts';
import { apiNeeds } from './needs.ts';

const RULE: RuleStatus = {
  ...{ id: 'one', name: 'One', type: 'query', severity: 'low', place: 'r.yaml:1', state: 'on', query: '*' },
  ...{ matches: 3, alerts: 1, groups: 1, entries: 3, evicted: 0, late: 0 },
};

describe('GET /api/v1/rules', () => {
  it('tells what is at work and what is wrong with the files', async () => {
    let reloads = 0;
    const rules = {
      rules: () => [RULE],
      problems: () => (reloads > 0 ? [] : ['r.yaml:4:13: rule two, severity: must be low']),
      reload: async () => {
        reloads++;
        return [];
      },
    };
    const api = createApi(apiNeeds({ rules }));
    const answer = await api.inject('/api/v1/rules');
    expect(answer.json()).toEqual({ watching: true, rules: [RULE], problems: rules.problems() });
    const reloaded = await api.inject({ method: 'POST', url: '/api/v1/rules/reload' });
    expect(reloaded.json()).toEqual({ watching: true, rules: [RULE], problems: [] });
  });

  it('says that rules are switched off', async () => {
    const api = createApi(apiNeeds({}));
    expect((await api.inject('/api/v1/rules')).json()).toEqual({ watching: false, rules: [], problems: [] });
    expect((await api.inject({ method: 'POST', url: '/api/v1/rules/reload' })).statusCode).toBe(400);
  });
});
