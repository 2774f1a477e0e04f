import { describe, expect, it } from 'vitest';
import type { Severity } from '../../src/core/alert.ts';
import { compileQuiet } from '../../src/notify/quiet.ts';
import { compileRouting, type RouteSettings } from '../../src/notify/routing.ts';
import { makeAlert } from '../fixtures/alerts.ts';

const CHANNELS = ['oncall', 'mail', 'archive'];

function told(routes: Partial<RouteSettings>[], given: Parameters<typeof alertOf>[0] = {}): string {
  const whole = routes.map((route) => ({ channels: [], continue: false, ...route }));
  return compileRouting(whole, CHANNELS)(alertOf(given)).join(' ');
}

function alertOf({
  severity = 'high',
  rule = 'logins.failed',
  tags = ['login'],
  namespace = 'prod',
  notify = [],
}: {
  severity?: Severity;
  rule?: string;
  tags?: string[];
  namespace?: string;
  notify?: string[];
}) {
  return makeAlert({ namespace, rule: { id: rule, name: rule, type: 'query', severity, tags, notify } });
}

describe('routing', () => {
  it.each<[string, string, string]>([
    ['without routes everybody hears', told([]), 'oncall mail archive'],
    ['the first that fits decides', told([{ channels: ['mail'] }, { channels: ['oncall'] }]), 'mail'],
    [
      'with continue later ones are looked at',
      told([{ channels: ['mail'], continue: true }, { channels: ['oncall'] }]),
      'oncall mail',
    ],
    ['a route may tell nobody', told([{ rule: ['logins.*'], channels: [] }, { channels: ['oncall'] }]), ''],
    [
      'severity is the least',
      told([
        { severity: 'critical', channels: ['oncall'] },
        { severity: 'medium', channels: ['mail'] },
      ]),
      'mail',
    ],
    ['rules by pattern', told([{ rule: ['x', '*.failed'], channels: ['oncall'] }]), 'oncall'],
    ['another rule', told([{ rule: ['logins'], channels: ['oncall'] }]), ''],
    ['tags', told([{ tag: ['login'], channels: ['oncall'] }]), 'oncall'],
    ['another tag', told([{ tag: ['log'], channels: ['oncall'] }]), ''],
    [
      'namespace',
      told([
        { namespace: ['test'], channels: ['oncall'] },
        { namespace: ['pr*'], channels: ['mail'] },
      ]),
      'mail',
    ],
    [
      'all that is given must fit',
      told([{ severity: 'high', rule: ['logins.*'], tag: ['other'], channels: ['mail'] }]),
      '',
    ],
    [
      'what the rule names comes on top, each once',
      told([{ channels: ['mail'] }], { notify: ['mail', 'archive', 'nobody'] }),
      'mail archive',
    ],
  ])('%s', (_, found, expected) => expect(found).toBe(expected));
});

describe('quiet times', () => {
  const at = (text: string) => Date.parse(text);
  const NIGHTS = { times: ['Mon-Fri 19:00-07:00', 'Sat-Sun'], timezone: 'Europe/Berlin', except: 'high' as const };

  it.each([
    // 2026-11-23 is a Monday; Berlin is one hour ahead of UTC.
    ['in the evening, until the morning', '2026-11-23T21:30:10Z', '2026-11-24T06:00:00Z'],
    ['at their first minute', '2026-11-23T18:00:00Z', '2026-11-24T06:00:00Z'],
    ['before', '2026-11-23T17:59:59Z', undefined],
    ['at their end', '2026-11-24T06:00:00Z', undefined],
    ['over the weekend, which its neighbours join', '2026-11-28T12:00:00Z', '2026-11-29T23:00:00Z'],
    ['from Friday on', '2026-11-27T20:00:00Z', '2026-11-29T23:00:00Z'],
    ['in the night in which clocks are set back', '2026-10-25T00:30:00Z', '2026-10-25T23:00:00Z'],
  ])('hold back %s', (_, now, end) => {
    expect(compileQuiet([NIGHTS])('mail', 'medium', at(now))).toBe(end === undefined ? undefined : at(end));
  });

  it('do not hold back what is severe, nor other channels', () => {
    const evening = at('2026-11-23T21:30:00Z');
    const quiet = compileQuiet([{ ...NIGHTS, channels: ['mail'] }]);
    expect(quiet('mail', 'high', evening)).toBeUndefined();
    expect(quiet('mail', 'critical', evening)).toBeUndefined();
    expect(quiet('oncall', 'low', evening)).toBeUndefined();
    expect(quiet('mail', 'low', evening)).toBeDefined();
  });

  it('that never end are looked at again after a week', () => {
    const quiet = compileQuiet([{ times: ['Mon-Sun'], timezone: 'UTC', except: 'critical' }]);
    expect(quiet('mail', 'low', 0)).toBe(7 * 86_400_000);
  });

  it.each([
    [{ times: ['nights'], timezone: 'UTC' }, /notify\.quiet\.0\.times: "nights" must be like "Mon-Fri 19:00-07:00/],
    [
      { times: ['Mon-Fri 19:00-07:00'], timezone: 'Berlin' },
      /notify\.quiet\.0\.timezone: "Berlin" must be a time zone/,
    ],
  ])('are checked: %o', (given, message) => {
    expect(() => compileQuiet([{ ...given, except: 'critical' }])).toThrow(message);
  });
});
