import { expect, it } from 'vitest';
import { openEventReceivers } from '../../src/app/event-receivers.ts';
import { settingsSchema } from '../../src/config/schema.ts';
import { AppError } from '../../src/core/errors.ts';
import { Counters } from '../../src/core/metrics.ts';
import type { Admit } from '../../src/receive/admission.ts';

const admit: Admit = async () => ({ kind: 'accepted', items: 1, rejected: 0, reason: '', trusted: true });
const room = { add: () => undefined, shrinkTo: () => undefined };
const SECRET = 'plainly a test';

function open(settings: object) {
  const shared = { admit, counters: new Counters(), clock: { nowMs: () => 0 } };
  return openEventReceivers(settingsSchema.parse(settings), shared);
}

/** The answer to a request that is as good as it can be. */
function statusOf(settings: object, preset: string): number | 'open' {
  const route = open(settings).routes.find(({ path }) => path === '/v1/events/');
  const request = { contentType: '', headers: {}, peer: '::1', namespace: undefined, browser: false, room };
  const opened = route?.open({ path: `/v1/events/${preset}`, ...request });
  return typeof opened === 'function' ? 'open' : (opened?.status ?? 0);
}

const mapping = { name: 'shop', when: { shop: '*' }, fields: { 'event.action': '${verb}' } };

it.each<[string, object, string, number | 'open']>([
  ['a preset', {}, 'opa', 'open'],
  ['another word', {}, 'shop', 404],
  ['a mapping of the settings', { mappings: [mapping] }, 'shop', 'open'],
  ['a preset in use', { presets: ['opa'] }, 'opa', 'open'],
  ['a preset that is not in use', { presets: ['opa'] }, 'hoop', 404],
])('webhooks go to %s', (_, settings, preset, expected) => expect(statusOf(settings, preset)).toBe(expected));

it('secrets belong to presets and mappings that are in use', () => {
  expect(() =>
    open({ mappings: [mapping], events: { shop: { secret: SECRET }, opa: { secret: [SECRET] } } }),
  ).not.toThrow();
  for (const [preset, settings] of [
    ['hop', {}],
    ['hoop', { presets: ['opa'] }],
  ] as const) {
    const attempt = () => open({ ...settings, events: { [preset]: { secret: SECRET } } });
    expect(attempt).toThrow(AppError);
    expect(attempt).toThrow(new RegExp(`events.${preset}: no such preset or mapping is in use; there are .*opa`));
  }
});

it.each<[string, object]>([
  ['no secret', { hoop: {} }],
  ['a secret that is guessed at once', { hoop: { secret: 'short' } }],
  ['an empty list of secrets', { hoop: { secret: [] } }],
  ['an unknown scheme', { hoop: { secret: SECRET, scheme: 'md5' } }],
])('%s is a mistake in the settings', (_, events) => {
  expect(settingsSchema.safeParse({ events }).success).toBe(false);
});
