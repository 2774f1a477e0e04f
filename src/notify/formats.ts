import { createHmac } from 'node:crypto';
import type { Severity } from '../core/alert.ts';
import { type Content, cut } from './content.ts';
import type { Notice, NoticeChange } from './notice.ts';

/** A request as a receiver's documentation asks for it. */
export interface Message {
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/**
 * Ours, signed as standardwebhooks.com says: `webhook-id` is the same at every attempt, the signature is `v1,` and the base64 of
 * HMAC-SHA256 over `id.timestamp.body`, one for each secret with spaces between them.
 */
export function webhookMessage(notice: Notice, content: Content, secrets: readonly string[], nowMs: number): Message {
  const body = JSON.stringify({
    type: `alert.${notice.change}`,
    timestamp: new Date(nowMs).toISOString(),
    data: { title: content.title, text: content.text, url: content.url, alert: notice.alert },
  });
  const timestamp = String(Math.floor(nowMs / 1000));
  const signatures = secrets.map((secret) => {
    const key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64');
    return `v1,${createHmac('sha256', key).update(`${notice.key}.${timestamp}.${body}`).digest('base64')}`;
  });
  return {
    headers: {
      'content-type': 'application/json',
      'webhook-id': notice.key,
      'webhook-timestamp': timestamp,
      'webhook-signature': signatures.join(' '),
    },
    body,
  };
}

/** Slack's incoming webhooks. `&`, `<` and `>` are what its text gives a meaning to: links, and mentions of everybody. */
export function slackMessage({ title, text, url }: Content): Message {
  const escaped = (plain: string) => plain.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
  const section = { type: 'section', text: { type: 'plain_text', text: cut(text, 3000), emoji: false } };
  const button = { type: 'button', text: { type: 'plain_text', text: 'Open the alert' }, url };
  const blocks = [
    { type: 'header', text: { type: 'plain_text', text: cut(title, 150), emoji: false } },
    section,
    ...(url === undefined ? [] : [{ type: 'actions', elements: [button] }]),
  ];
  return json({ text: escaped(title), blocks });
}

/**
 * An Adaptive Card, as the workflow "Post to a channel when a webhook request is received" of Microsoft Teams takes it. Text runs
 * know no Markdown, so that nothing in a record becomes a link.
 */
export function teamsMessage({ title, text, url }: Content): Message {
  const lines = text.split('\n').filter((line) => line !== '');
  const paragraph = (line: string, style: object) => ({
    type: 'RichTextBlock',
    inlines: [{ type: 'TextRun', text: line, ...style }],
  });
  const card = {
    $schema: 'http://adaptivecards.io/schemas/adaptive-card.json',
    type: 'AdaptiveCard',
    version: '1.4',
    body: [
      paragraph(title, { weight: 'Bolder', size: 'Medium' }),
      ...lines.map((line) => ({ ...paragraph(line, {}), spacing: 'Small' })),
    ],
    ...(url === undefined ? {} : { actions: [{ type: 'Action.OpenUrl', title: 'Open the alert', url }] }),
  };
  const attachment = { contentType: 'application/vnd.microsoft.card.adaptive', contentUrl: null, content: card };
  return json({ type: 'message', attachments: [attachment] });
}

const PAGERDUTY_SEVERITY: Readonly<Record<Severity, string>> = {
  critical: 'critical',
  high: 'error',
  medium: 'warning',
  low: 'info',
};

const PAGERDUTY_ACTION: Readonly<Record<NoticeChange, string>> = {
  raised: 'trigger',
  acknowledged: 'acknowledge',
  closed: 'resolve',
};

/** PagerDuty's Events API v2. One alert is one incident: what is said of it later goes to the same `dedup_key`. */
export function pagerdutyMessage({ alert, change }: Notice, content: Content, routingKey: string): Message {
  return json({
    routing_key: routingKey,
    event_action: PAGERDUTY_ACTION[change],
    dedup_key: alert.id,
    client: 'Spantrail',
    ...(content.url === undefined ? {} : { client_url: content.url }),
    payload: {
      summary: cut(`${content.title}: ${alert.reason}`, 1024),
      source: cut(Object.values(alert.group).join(' ') || alert.namespace, 255),
      severity: PAGERDUTY_SEVERITY[alert.rule.severity],
      timestamp: alert.lastAt,
      group: alert.namespace,
      class: alert.rule.id,
      custom_details: {
        text: content.text,
        count: alert.count,
        group: alert.group,
        records: alert.records,
        traces: alert.traces,
      },
    },
  });
}

function json(value: object): Message {
  return { headers: { 'content-type': 'application/json' }, body: JSON.stringify(value) };
}
