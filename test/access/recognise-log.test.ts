import { describe, expect, it } from 'vitest';
import { exceptionOf } from '../../src/access/attributes.ts';
import { recogniseLog } from '../../src/access/recognise.ts';
import { accessOf, log, NOTE, RULES, type Values } from './evidence.ts';

const FULL: Values = {
  'event.id': 'e-1',
  'event.action': 'export',
  'event.outcome': 'success',
  'event.category': ['database', 'nonsense'],
  'event.type': ['access'],
  'user.id': 'alice',
  'user.name': 'Alice',
  'user.roles': ['nurse', 'lead'],
  'user.effective.id': 'bob',
  'audit.actor.relation': 'employee',
  'audit.target.type': 'table',
  'audit.target.id': 'clinic.patients',
  'audit.decision': 'allowed',
  'audit.purpose': 'treatment',
  'audit.change.before': { ward: 3n },
  'audit.change.after': 'ward 4',
  'audit.checks': [
    { permission: 'patients.export', granted: 'yes', rule: 'r1', duration: 5, engine: 'opa' },
    { permission: 'x' },
  ],
  'rule.id': 'r1',
  'source.ip': '2001:DB8:0:0::1',
  'db.statement': "SELECT * FROM patients WHERE name = 'alice'",
  'db.system': 'postgresql',
};

describe('an event that says everything', () => {
  const access = accessOf(log(FULL, { eventName: 'patient.access' }));

  it('is taken at its word', () => {
    expect(access).toMatchObject({
      source: 'event',
      preset: 'log.access',
      spanId: 'b'.repeat(16),
      ownId: 'e-1',
      action: 'export',
      category: ['database'],
      type: ['access', 'allowed'],
      outcome: 'success',
      decision: 'allow',
      whySource: 'rule',
      rule: { id: 'r1' },
      purpose: 'treatment',
      target: { type: 'table', id: 'clinic.patients', service: 'orders' },
      change: { before: '{"ward":"3"}', after: 'ward 4' },
      checks: [{ permission: 'patients.export', granted: true, rule: 'r1', duration: 5, engine: 'opa' }],
      actor: { id: 'alice', name: 'Alice', roles: ['nurse', 'lead'], relation: 'employee', effective: { id: 'bob' } },
      evidence: { signal: 'logs', source: 'log.access', sender: 'grpc', id: 'e-1' },
      startNs: 1_200n,
      endNs: 1_200n,
    });
    expect(access.unstated).toBeUndefined();
    expect(access.sections).toEqual({
      db: {
        system: 'postgresql',
        collection: 'patients',
        operation: 'SELECT',
        statement: 'SELECT * FROM patients WHERE name = ?',
      },
      source: { ip: '2001:db8::1' },
    });
  });

  it('reads the same out of a body of key-values or JSON', () => {
    const nested = {
      audit: { target: { type: 'table', id: 'clinic.patients' } },
      user: { id: 'alice' },
      event: { action: 'export' },
    };
    for (const body of [nested, JSON.stringify(nested)]) {
      expect(accessOf(log({}, { body }))).toMatchObject({
        action: 'export',
        target: access.target,
        actor: { id: 'alice' },
      });
    }
  });

  it('says nothing that counts when its sender is not trusted', () => {
    const untrusted = accessOf(log(FULL, { note: { ...NOTE, trusted: false } }));
    expect(untrusted).toMatchObject({ outcome: 'unknown', decision: 'none', type: ['access'], whySource: 'none' });
    for (const claim of ['actor', 'rule', 'checks', 'reason', 'purpose', 'change'] as const) {
      expect(untrusted[claim]).toBeUndefined();
    }
  });
});

describe('events that leave things out', () => {
  it.each<[string, Values, string, Values]>([
    [
      'a name alone',
      {},
      'access',
      { action: 'access', outcome: 'unknown', unstated: ['action', 'target', 'category', 'type'] },
    ],
    [
      'a decision implies the outcome',
      { 'audit.decision': 'DENIED', 'event.reason': 'no consent' },
      'x.access',
      { outcome: 'failure', decision: 'deny', type: ['access', 'denied'], reason: 'no consent', whySource: 'status' },
    ],
    [
      'a type tells the decision',
      { 'event.type': ['denied'], 'audit.target.id': 'x' },
      '',
      { decision: 'deny', outcome: 'failure', target: { type: 'resource', id: 'x', service: 'orders' } },
    ],
    [
      'the table is the target',
      { 'db.collection.name': 't', 'db.system.name': 'sqlite' },
      'audit.read',
      {
        action: 'read',
        target: { type: 'table', id: 'sqlite/t', name: 't', service: 'orders' },
        category: ['database'],
      },
    ],
    ['a duration ends at its time', { 'event.duration': 200 }, 'access', { startNs: 1_000n, endNs: 1_200n }],
    ['no time of its own', {}, 'access', { startNs: 1_300n }],
  ])('%s', (title, values, eventName, expected) => {
    const timeNs = title === 'no time of its own' ? 0n : 1_200n;
    expect(accessOf(log(values, { eventName, timeNs }))).toMatchObject(expected);
  });
});

describe('authentication', () => {
  it.each<[string, string, Values, Values]>([
    [
      'failure: the account is claimed',
      'user.login',
      { 'user.name': 'alice', 'event.outcome': 'failure' },
      { action: 'login', type: ['start', 'denied'], decision: 'deny', claimedAccount: 'alice' },
    ],
    ['failure by name', 'auth.login.failed', { 'user.id': 'alice' }, { outcome: 'failure', claimedAccount: 'alice' }],
    [
      'success',
      'user.login',
      { 'user.id': 'alice', 'event.outcome': 'success' },
      { outcome: 'success', decision: 'none', type: ['start'], actor: { id: 'alice' } },
    ],
    ['logout', 'logout', { 'user.id': 'alice' }, { action: 'logout', type: ['end'] }],
    [
      'by category',
      '',
      { 'event.category': 'authentication', 'event.action': 'mfa', 'user.id': 'alice' },
      { action: 'mfa', type: ['start'] },
    ],
  ])('%s', (_, eventName, values, expected) => {
    const access = accessOf(log(values, { eventName }));
    expect(access).toMatchObject({ category: expect.arrayContaining(['authentication']), ...expected });
    expect(access.target).toMatchObject({ type: 'account', id: 'alice' });
  });

  it('takes an action named like a login for one, whoever it failed for', () => {
    const values = {
      'event.action': 'login',
      'event.outcome': 'failure',
      'user.id': 'dora',
      'audit.target.id': 'portal',
    };
    const access = accessOf(log(values, { eventName: 'spantrail.access' }));
    expect(access).toMatchObject({ action: 'login', outcome: 'failure', claimedAccount: 'dora' });
    expect(access?.category).toContain('authentication');
  });

  it('keeps a target that the event names', () => {
    const values = { 'user.id': 'admin', 'audit.target.type': 'account', 'audit.target.id': 'bob' };
    expect(accessOf(log(values, { eventName: 'auth.password_reset' })).target.id).toBe('bob');
  });
});

describe('what is context', () => {
  it.each([
    ['a line of text', log({}, { body: 'user logged in' })],
    ['JSON about something else', log({}, { body: '{"level":"info","event":"started"}' })],
    ['broken JSON', log({}, { body: '{"audit.target.id": ' })],
    ['another event', log({ 'user.id': 'alice' }, { eventName: 'cart.opened' })],
    ['an authorisation check', log({ 'audit.check.granted': false })],
  ])('%s', (_, record) => expect(recogniseLog(record, RULES)).toEqual({ kind: 'context' }));

  it('an exception, which tells about its span', () => {
    const record = log({ 'exception.type': 'E', 'exception.message': 'm' });
    expect(recogniseLog(record, RULES)).toEqual({ kind: 'context' });
    expect(exceptionOf(record)).toEqual({ type: 'E', message: 'm' });
    expect(exceptionOf(log({}))).toBeUndefined();
  });
});
