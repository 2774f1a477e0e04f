import type { Clock } from '../core/clock.ts';
import { describeError } from '../core/errors.ts';
import { AddressRefused, type Resolve } from './address.ts';
import { type Content, contentOf, type Template } from './content.ts';
import { type EmailSettings, sendEmail } from './email.ts';
import { type Message, pagerdutyMessage, slackMessage, teamsMessage, webhookMessage } from './formats.ts';
import { type PostAnswer, post } from './http-post.ts';
import type { Notice, NoticeChange, Outcome } from './notice.ts';

interface SharedSettings {
  readonly name: string;
  readonly on?: readonly NoticeChange[] | undefined;
  readonly allowPrivate: boolean;
  readonly template: Template;
}

/** As the settings have it, checked. */
export type ChannelSettings = SharedSettings &
  (
    | {
        readonly type: 'webhook';
        readonly url: string;
        readonly secret: readonly string[];
        readonly headers: Readonly<Record<string, string>>;
      }
    | { readonly type: 'slack' | 'teams'; readonly url: string }
    | { readonly type: 'pagerduty'; readonly url: string; readonly routingKey: string }
    | ({ readonly type: 'email' } & EmailSettings)
  );

export interface Surroundings {
  readonly clock: Clock;
  readonly resolve: Resolve;
  /** PEM of the channel's own authority. */
  readonly ca: string | undefined;
  readonly baseUrl: string | undefined;
  readonly timeoutMs: number;
  readonly version: string;
}

export interface Channel {
  readonly name: string;
  readonly type: ChannelSettings['type'];
  readonly on: ReadonlySet<NoticeChange>;
  /** One attempt. Never rejects, and never says a secret. */
  deliver(notice: Notice): Promise<Outcome>;
}

/** PagerDuty closes an incident when it is told so; people need to hear only that there is something. */
const ON_BY_DEFAULT: Readonly<Record<ChannelSettings['type'], readonly NoticeChange[]>> = {
  webhook: ['raised', 'acknowledged', 'closed'],
  pagerduty: ['raised', 'acknowledged', 'closed'],
  slack: ['raised'],
  teams: ['raised'],
  email: ['raised'],
};

export function openChannel(settings: ChannelSettings, surroundings: Surroundings): Channel {
  const { name, type, on = ON_BY_DEFAULT[type], template } = settings;
  return {
    ...{ name, type, on: new Set(on) },
    async deliver(notice) {
      const content = contentOf(notice, template, surroundings.baseUrl);
      try {
        if (settings.type === 'email') return await sendEmail(settings, notice, content, surroundings);
        const { headers, body } = messageFor(settings, notice, content, surroundings.clock.nowMs());
        const ours = { 'user-agent': `Spantrail/${surroundings.version}`, 'idempotency-key': notice.key };
        const answer = await post(new URL(settings.url), { ...ours, ...headers }, body, {
          ...settings,
          ...surroundings,
        });
        return outcomeOf(answer, surroundings.clock.nowMs());
      } catch (error) {
        return { kind: error instanceof AddressRefused ? 'dead' : 'failed', reason: describeError(error) };
      }
    },
  };
}

function messageFor(
  settings: Exclude<ChannelSettings, { readonly type: 'email' }>,
  notice: Notice,
  content: Content,
  nowMs: number,
): Message {
  switch (settings.type) {
    case 'webhook': {
      const message = webhookMessage(notice, content, settings.secret, nowMs);
      return { ...message, headers: { ...settings.headers, ...message.headers } };
    }
    case 'slack':
      return slackMessage(content);
    case 'teams':
      return teamsMessage(content);
    case 'pagerduty':
      return pagerdutyMessage(notice, content, settings.routingKey);
  }
}

/**
 * Statuses that speak of the address or the message: another try gets the same. What is said of credentials, quotas and the
 * receiver's own trouble may be mended, so it is tried again.
 */
const FINAL = new Set([400, 404, 405, 406, 409, 410, 411, 413, 414, 415, 421, 422, 431, 501]);

/** A receiver that asks for more is asked again sooner. */
const RETRY_AFTER_MAX_MS = 3_600_000;

function outcomeOf({ status, text, retryAfter }: PostAnswer, nowMs: number): Outcome {
  const said = text.replace(/\s+/g, ' ').trim().slice(0, 200);
  const answer = said === '' ? `${status}` : `${status} ${said}`;
  if (status >= 200 && status < 300) return { kind: 'delivered', answer };
  if (status >= 300 && status < 400) {
    return { kind: 'dead', reason: `${status}: redirects are not followed; name the address that it leads to` };
  }
  if (FINAL.has(status)) return { kind: 'dead', reason: answer };
  const afterMs = retryAfterMs(retryAfter, nowMs);
  return { kind: 'failed', reason: answer, ...(afterMs === undefined ? {} : { afterMs }) };
}

/** Seconds, or a date as HTTP writes it. */
function retryAfterMs(text: string | undefined, nowMs: number): number | undefined {
  if (text === undefined) return undefined;
  const waitMs = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - nowMs;
  return waitMs > 0 ? Math.min(waitMs, RETRY_AFTER_MAX_MS) : undefined;
}
