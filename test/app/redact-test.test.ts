import { expect, it } from 'vitest';
import { testRedaction } from '../../src/app/redact-test.ts';
import { settingsSchema } from '../../src/config/schema.ts';

const SESSION = '7f3c2c1e8a514b909d0e52e1c3a7b955';

it('shows what becomes of a session in attribute and cookie, as hash', () => {
  const attributes = { 'session.id': SESSION, 'http.request.header.cookie': [`JSESSIONID=${SESSION}; theme=dark`] };
  const [values] = testRedaction(JSON.stringify(attributes), settingsSchema.parse({}));
  const hash = values?.[0]?.kept ?? '';
  expect(hash).toMatch(/^[\w-]{32}$/);
  expect(hash).not.toBe(SESSION);
  expect(values?.[1]?.kept).toContain(`JSESSIONID=${hash}`);
  expect(values?.[1]?.kept).not.toContain('dark');
});
