import { describe, expect, it } from 'vitest';
import { tokenKey } from '../../src/core/token-key.ts';
import { span } from './evidence.ts';
import { request, settled, statement } from './settling.ts';

const SESSION = 'aGFzaC1vZi1hLXNlc3Npb24';

function token(claims: object): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  return `${part({ alg: 'RS256' })}.${part(claims)}.****`;
}

describe('the record of what an AI agent did', () => {
  const spans = [
    request({ id: '1' }, 200, { 'user.id': 'u1', 'user.name': 'alice', 'session.id': `${SESSION}==` }),
    span({ id: '2', parent: '1', name: 'invoke_agent', attributes: { 'gen_ai.agent.name': 'triage' } }),
    span({
      id: '3',
      parent: '2',
      attributes: { 'gen_ai.tool.name': 'search', 'gen_ai.operation.name': 'execute_tool' },
    }),
    statement({ id: '4', parent: '3', service: 'records' }, { 'db.user': 'app' }),
  ];
  const records = settled(spans, []).records.map(({ record }) => record);
  const inner = (action: string) => records.find(({ event }) => event.action === action);

  it('names the agent, on behalf of whom, and the session', () => {
    for (const action of ['execute_tool', 'SELECT']) {
      expect(inner(action)).toMatchObject({
        user: { id: 'triage', name: 'triage', effective: { id: 'u1', name: 'alice' } },
        session: { id: SESSION },
        gen_ai: { agent: { name: 'triage' } },
        related: { user: ['triage', 'u1', 'alice'] },
        audit: { actor: { type: 'agent', attribution: 'ancestor' } },
      });
    }
    expect(inner('execute_tool')?.gen_ai?.tool).toEqual({ name: 'search' });
    expect(inner('execute_tool')?.message).toMatch(/^agent triage for alice ran the tool search/);
    expect(inner('execute_tool')?.audit.evidence.map(({ source }) => source)).toEqual([
      ...['gen_ai.tool', 'actor.agent', 'actor.span'],
    ]);
  });

  it('leaves what the person did herself', () => {
    const entry = records.find(({ audit }) => audit.entry);
    expect(entry).toMatchObject({ user: { id: 'u1' }, session: { id: SESSION }, audit: { actor: { type: 'user' } } });
    expect(entry?.gen_ai).toBeUndefined();
  });
});

describe('the record of a request with a token', () => {
  const jwt = token({ sub: 'u1', preferred_username: 'alice' });
  const headers = { 'http.request.header.authorization': [`Bearer ${jwt}`] };
  const recordWith = (verdict: 'verified' | 'expired', status = 200) => {
    const note = { tokens: { [tokenKey(jwt) ?? '']: verdict } };
    return settled([request({ id: '1', note }, status, headers)], []).records[0]?.record;
  };

  it('that was checked names a verified actor, also when she is refused', () => {
    for (const status of [200, 403]) {
      expect(recordWith('verified', status)).toMatchObject({
        user: { id: 'u1', name: 'alice' },
        audit: { actor: { attribution: 'header', verified: true } },
      });
    }
  });

  it('that did not stand the check says who somebody claims to be', () => {
    const record = recordWith('expired');
    expect(record?.user).toBeUndefined();
    expect(record).toMatchObject({
      related: { user: ['u1'] },
      audit: { actor: { type: 'anonymous', claimed: 'u1', verified: false } },
    });
    expect(record?.message).toMatch(/^someone claiming to be u1 read/);
  });
});
