import { describe, expect, it } from 'vitest';
import type { Alert } from '../../src/core/alert.ts';
import { contentOf, unknownName } from '../../src/notify/content.ts';
import { pagerdutyMessage, slackMessage, teamsMessage } from '../../src/notify/formats.ts';
import { makeNotice, type NoticeChange } from '../../src/notify/notice.ts';
import { makeAlert } from '../fixtures/alerts.ts';

const notice = (given: Partial<Alert> = {}, change: NoticeChange = 'raised') =>
  makeNotice(makeAlert(given), change, 1, 'oncall', 0);
const EVIL = 'mallory <!channel> [x](https://evil.example) & \u202eevil\u0007\r\nBcc: all@example.com';

describe('what a notice says', () => {
  it('is the reason and the facts', () => {
    const { title, text, url } = contentOf(notice(), {}, 'https://audit.example/spantrail');
    expect(title).toBe('[high] Repeated failed logins');
    expect(url).toBe(`https://audit.example/spantrail/api/v1/alerts/${'a'.repeat(32)}`);
    expect(text.split('\n')).toEqual([
      'alice failed to log in 5 times within 2 minutes',
      '',
      'Rule: Repeated failed logins (repeated-failed-logins)',
      'Severity: high',
      'Namespace: default',
      'Of: user.id: alice',
      'Accesses: 5',
      'First: 2026-11-22T10:00:00.000000000Z',
      'Last: 2026-11-22T10:01:00.000000001Z',
      'Records: 00000000000000000000000000000001',
      `Alert: ${'a'.repeat(32)}`,
      `See: ${url}`,
    ]);
  });

  it('says who changed an alert, and why', () => {
    const history = [{ at: '2026-11-22T11:00:00Z', by: 'bob', state: 'closed' as const, note: 'her own typo' }];
    const { title, text } = contentOf(notice({ state: 'closed', history, atLeast: true }, 'closed'), {}, undefined);
    expect(title).toBe('[high] Repeated failed logins: closed by bob');
    expect(text).toContain('Closed by: bob\nNote: her own typo');
    expect(text).toContain('Accesses: 5 or more');
  });

  it('follows templates, and puts values in as they are', () => {
    const template = {
      title: '${severity}: ${group.user.id}${group.source.ip}!',
      text: '${count} of ${threshold} ${reason}',
    };
    const content = contentOf(
      notice({ reason: 'a ${count} $& $1', group: { 'user.id': '${reason}' } }),
      template,
      undefined,
    );
    expect(content).toEqual({ title: 'high: ${reason}!', text: '5 of 5 a ${count} $& $1', url: undefined });
  });

  it('knows which names there are', () => {
    expect(unknownName('${reason} ${group.user.id} $5 ${rule.id}')).toBeUndefined();
    expect(unknownName('${reason} ${raeson}')).toBe('raeson');
    expect(unknownName('${group.}')).toBe('group.');
  });

  it('has one line for a title, no control characters, and an end', () => {
    const { title, text } = contentOf(
      notice({ reason: EVIL }),
      { title: '${reason}'.repeat(10), text: '${reason}'.repeat(200) },
      undefined,
    );
    expect([...title]).toHaveLength(200);
    expect([...text]).toHaveLength(2800);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what must not be there
    expect(title).not.toMatch(/[\u0000-\u001f\u202e]/);
    for (const mark of ['\r', '\u0007', '\u202e']) expect(text).not.toContain(mark);
  });

  it('has no line that a value wrote', () => {
    const history = [{ at: '2026-11-22T11:00:00Z', by: 'bob', state: 'closed' as const, note: EVIL }];
    const forged = notice({ reason: EVIL, group: { 'user.id': EVIL }, state: 'closed', history }, 'closed');
    for (const template of [{}, { text: '${reason}|${group}|${group.user.id}|${note}' }]) {
      const lines = contentOf(forged, template, undefined).text.split('\n');
      expect(lines.filter((line) => line.includes('Bcc: all@example.com')).length).toBeGreaterThan(0);
      expect(lines.filter((line) => line.startsWith('Bcc'))).toEqual([]);
    }
  });
});

describe('formats', () => {
  const evil = contentOf(
    notice({ reason: EVIL, rule: { ...makeAlert().rule, name: EVIL } }),
    {},
    'https://audit.example',
  );

  it('Slack gets blocks of plain text, and a fallback in which nothing is a mention', () => {
    const body = JSON.parse(slackMessage(evil).body);
    expect(body.text).toContain('mallory &lt;!channel&gt;');
    expect(body.text).not.toContain('<');
    expect(body.blocks.map(({ type }: { type: string }) => type)).toEqual(['header', 'section', 'actions']);
    expect(body.blocks[0].text).toMatchObject({ type: 'plain_text', emoji: false });
    expect([...body.blocks[0].text.text].length).toBeLessThanOrEqual(150);
    expect(body.blocks[1].text).toMatchObject({ type: 'plain_text' });
    expect(body.blocks[2].elements[0].url).toMatch(/^https:\/\/audit\.example\/api/);
  });

  it('Teams gets an Adaptive Card without Markdown', () => {
    const body = JSON.parse(teamsMessage(evil).body);
    const [{ contentType, content }] = body.attachments;
    expect(body.type).toBe('message');
    expect(contentType).toBe('application/vnd.microsoft.card.adaptive');
    expect(content).toMatchObject({ type: 'AdaptiveCard', version: '1.4', actions: [{ type: 'Action.OpenUrl' }] });
    expect(new Set(content.body.map(({ type }: { type: string }) => type))).toEqual(new Set(['RichTextBlock']));
  });

  it.each([
    ['raised', 'high', 'trigger', 'error'],
    ['acknowledged', 'critical', 'acknowledge', 'critical'],
    ['closed', 'low', 'resolve', 'info'],
  ] as const)('PagerDuty hears of %s of severity %s as %s of %s', (change, severity, action, said) => {
    const one = notice({ rule: { ...makeAlert().rule, severity } }, change);
    const body = JSON.parse(pagerdutyMessage(one, contentOf(one, {}, undefined), 'key').body);
    expect(body).toMatchObject({ routing_key: 'key', event_action: action, dedup_key: 'a'.repeat(32) });
    expect(body.payload).toMatchObject({ severity: said, source: 'alice', class: 'repeated-failed-logins' });
    expect(body.payload.summary.length).toBeLessThanOrEqual(1024);
  });
});
