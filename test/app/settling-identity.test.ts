import { describe, expect, it } from 'vitest';
import { createSettling, settlingSettings } from '../../src/app/settling.ts';
import { settingsSchema } from '../../src/config/schema.ts';
import { TRACE_ID } from '../enrich/evidence.ts';
import { request } from '../enrich/settling.ts';

/** The user of a request with these attributes, under these settings as a file has them. */
function userOf(settings: object, attributes: Record<string, string>): unknown {
  // As on a worker thread.
  const given = structuredClone(settlingSettings(settingsSchema.parse(settings)));
  const spans = [request({ id: '1' }, 200, attributes)];
  const { records } = createSettling(given).settle({ namespace: 'default', traceId: TRACE_ID, spans, logs: [] });
  return records[0]?.record.user;
}

function bearer(claims: object): Record<string, string> {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  return { 'http.request.header.authorization': `Bearer ${part({ alg: 'RS256' })}.${part(claims)}.****` };
}

describe('settings say who is who', () => {
  it('by the names of claims', () => {
    const claims = { id: ['employee.number'], roles: ['https://clinic.example/roles'] };
    const given = { sub: 's', employee: { number: 'e7' }, 'https://clinic.example/roles': ['nurse'] };
    expect(userOf({ identity: { claims } }, bearer(given))).toEqual({ id: 'e7', roles: ['nurse'] });
    expect(userOf({}, bearer(given))).toEqual({ id: 's' });
  });

  it('by headers of their own, which replace the known ones', () => {
    const identityHeaders = [{ header: 'x-clinic-badge', field: 'id' }];
    const badge = { 'http.request.header.x_clinic_badge': 'b9' };
    const known = { 'http.request.header.x-forwarded-user': 'alice' };
    expect(userOf({ access: { identityHeaders } }, { ...badge, ...known })).toEqual({ id: 'b9' });
    expect(userOf({ access: { identityHeaders } }, known)).toBeUndefined();
    expect(userOf({}, { ...badge, ...known })).toEqual({ id: 'alice' });
  });

  it('by the names in baggage', () => {
    const carried = { 'http.request.header.baggage': 'employee=e7' };
    expect(userOf({ identity: { baggageUsers: ['employee'] } }, carried)).toEqual({ id: 'e7' });
    expect(userOf({}, carried)).toBeUndefined();
  });
});
