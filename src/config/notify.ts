import { z } from 'zod';
import { SEVERITIES } from '../core/alert.ts';
import { durationMs } from './values.ts';

const NOTICE_CHANGES = ['raised', 'acknowledged', 'closed'] as const;

const name = z
  .string()
  .regex(/^[a-z0-9][a-z0-9_-]{0,62}$/, 'must be 1 to 63 of a-z, 0-9, _ and -, and start with a letter or digit');

const url = z.url({ protocol: /^https?$/, error: 'must be an address like https://hooks.example.com/…' });
const texts = z.union([z.array(z.string().min(1)).min(1), z.string().min(1)]).transform((given) => [given].flat());

/** What every kind of channel has. */
const shared = {
  name,
  /** Which changes of an alert are told. */
  on: z.array(z.enum(NOTICE_CHANGES)).min(1).optional(),
  /** Loopback, private, link-local and metadata addresses may be connected to, and `http:` or SMTP without TLS used. */
  allowPrivate: z.boolean().default(false),
  /** PEM file of the authority that signed the receiver's certificate. */
  caFile: z.string().optional(),
  template: z.strictObject({ title: z.string().min(1).optional(), text: z.string().min(1).optional() }).prefault({}),
};

/** 24 bytes are what Standard Webhooks asks for at least. */
const SECRET_BYTES_MIN = 24;

const secret = z
  .string()
  .refine(
    (text) => Buffer.from(text.replace(/^whsec_/, ''), 'base64').length >= SECRET_BYTES_MIN,
    `must be whsec_ and the base64 of at least ${SECRET_BYTES_MIN} random bytes: openssl rand -base64 32`,
  );

const smtp = z.strictObject({
  host: z.string().min(1),
  port: z.int().min(1).max(65_535).optional(),
  /** `starttls` insists on it: a server that does not offer it gets nothing. */
  security: z.enum(['tls', 'starttls', 'none']).default('starttls'),
  user: z.string().optional(),
  password: z.string().optional(),
});

const address = z.string().regex(/^[^\r\n]*[^\s@<>]+@[^\s@<>]+>?$/, 'must be an address like audit@example.com');

const channel = z
  .discriminatedUnion('type', [
    z.strictObject({
      ...shared,
      type: z.literal('webhook'),
      url,
      /** Several while one is replaced by another: each signs. */
      secret: z.union([z.array(secret).min(1), secret.transform((one) => [one])]),
      headers: z
        .record(z.string(), z.string().regex(/^[\t -~]*$/, 'must be one line of ASCII'))
        .refine((headers) => Object.keys(headers).every((one) => /^[A-Za-z0-9-]+$/.test(one)), {
          error: 'names must be letters, digits and dashes',
        })
        .default({}),
    }),
    z.strictObject({ ...shared, type: z.literal('slack'), url }),
    z.strictObject({ ...shared, type: z.literal('teams'), url }),
    z.strictObject({
      ...shared,
      type: z.literal('pagerduty'),
      routingKey: z.string().min(1),
      url: url.default('https://events.pagerduty.com/v2/enqueue'),
    }),
    z.strictObject({ ...shared, type: z.literal('email'), smtp, from: address, to: z.array(address).min(1) }),
  ])
  .superRefine((one, context) => {
    const plain = 'url' in one ? !one.url.startsWith('https:') : one.smtp.security === 'none';
    if (!plain || one.allowPrivate) return;
    const path = 'url' in one ? ['url'] : ['smtp', 'security'];
    context.addIssue({ code: 'custom', path, message: 'goes unencrypted, which only allowPrivate: true permits' });
  });

const route = z.strictObject({
  /** The lowest severity that goes this way. */
  severity: z.enum(SEVERITIES).optional(),
  /** Ids of rules, `*` as wildcard. */
  rule: texts.optional(),
  tag: texts.optional(),
  namespace: texts.optional(),
  /** None: whatever fits is told to nobody. */
  channels: z.array(name),
  /** Routes below are looked at, too. */
  continue: z.boolean().default(false),
});

const quiet = z.strictObject({
  times: texts,
  timezone: z.string().default('UTC'),
  /** Only these channels hold back; all of them when left out. */
  channels: z.array(name).optional(),
  /** This severity and those above are told all the same. */
  except: z.enum(SEVERITIES).default('critical'),
});

/** Who hears of alerts, where and when: docs/notices.md. */
export const notify = z
  .strictObject({
    channels: z
      .array(channel)
      .prefault([])
      .describe(
        'Where notices go: `name`, `type` (webhook, slack, teams, pagerduty, email) and what that type needs. Secrets best as ${env:NAME}.',
      ),
    routes: z
      .array(route)
      .prefault([])
      .describe(
        'Which alerts go where: the first that fits (`severity` at least, `rule`, `tag`, `namespace`) names the `channels`; with `continue` later ones are looked at, too. Without routes every channel gets every alert. What a rule names itself comes on top.',
      ),
    quiet: z
      .array(quiet)
      .prefault([])
      .describe(
        'Quiet times such as `Mon-Fri 19:00-07:00` with `timezone`: notices below the severity `except` (critical) wait until they end.',
      ),
    baseUrl: url
      .optional()
      .describe('Where people reach the page of this Spantrail: notices have a link to the alert. None without it.'),
    triesMax: z
      .int()
      .min(1)
      .max(1000)
      .default(25)
      .describe('Attempts to deliver a notice before it is a dead letter: 25 take about two hours.'),
    retryMaxMs: durationMs('15m').describe(
      'Longest wait between two attempts; each is a random part of twice the last.',
    ),
    timeoutMs: durationMs('10s').describe('A receiver that has not answered for this long is tried again later.'),
    noticesMax: z
      .int()
      .min(1)
      .max(1_000_000)
      .default(10_000)
      .describe(
        'Notices that wait or are dead letters, at most. Over it the oldest dead letters go, then new notices are not made. Alerts are stored in any case.',
      ),
  })
  .superRefine(({ channels, routes, quiet }, context) => {
    const names = channels.map((one) => one.name);
    for (const [at, one] of names.entries()) {
      if (names.indexOf(one) === at) continue;
      context.addIssue({ code: 'custom', path: ['channels', at, 'name'], message: `${one} is there twice` });
    }
    const check = (list: string, at: number, used: readonly string[] | undefined) => {
      for (const one of used ?? []) {
        if (names.includes(one)) continue;
        const message = `there is no channel ${one}; there are ${names.join(', ') || 'none'}`;
        context.addIssue({ code: 'custom', path: [list, at, 'channels'], message });
      }
    };
    for (const [at, one] of routes.entries()) check('routes', at, one.channels);
    for (const [at, one] of quiet.entries()) check('quiet', at, one.channels);
  })
  .prefault({});
