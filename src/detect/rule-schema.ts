import { z } from 'zod';
import { SEVERITIES } from '../core/alert.ts';
import { parseDuration } from '../query/text.ts';

/** What a rule may say in its file: docs/rules.md. */

const DURATION_WORDS = 'must be a time such as 30s, 10m, 2h or 7d';
/** A year: nothing here remembers longer. */
const DURATION_MS_MAX = 366 * 86_400_000;

const duration = z.string(DURATION_WORDS).transform((text, context) => {
  const durationNs = /[a-z]/.test(text) ? parseDuration(text) : undefined;
  const durationMs = durationNs === undefined ? -1 : Number(durationNs / 1_000_000n);
  if (durationMs >= 0 && durationMs <= DURATION_MS_MAX) return durationMs;
  context.addIssue(durationMs > DURATION_MS_MAX ? 'must be 366d at most' : DURATION_WORDS);
  return z.NEVER;
});
const positive = duration.refine((durationMs) => durationMs >= 1000, 'must be at least 1s');

const field = z.string().min(1);
const fields = z.union([field.transform((name) => [name]), z.array(field).min(1).max(3)], {
  error: 'must be a field or a list of one to three',
});
const count = z.int('must be a whole number').min(1, 'must be at least 1');

const QUERY_WORDS = 'a rule needs a query, as in search; "*" is every access';
/** Nothing finds everything in a search; in a rule it was most likely forgotten. */
const query = (words: string) => z.string(words).regex(/\S/, words);

const common = {
  id: z
    .string('a rule needs an id, which overrides and alerts name it by')
    .regex(/^[a-z0-9][a-z0-9._-]{0,63}$/, 'must be lower-case letters, digits, dots, dashes, at most 64'),
  name: z.string('a rule needs a name for people').min(1).max(200),
  description: z.string().optional(),
  query: query(QUERY_WORDS),
  source: z.enum(['records', 'pipeline']).default('records'),
  inner: z.boolean().default(false),
  hours: z.strictObject({ outside: z.string(), timezone: z.string().default('UTC') }).optional(),
  group_by: fields.optional(),
  groups_max: count.max(1_000_000).optional(),
  severity: z.enum(SEVERITIES, `must be ${SEVERITIES.join(', ')}`),
  reason: z.string().min(1).max(500).optional(),
  suppress: duration.optional(),
  tags: z.array(z.string()).default([]),
  references: z.array(z.string()).default([]),
  notify: z.array(z.string()).default([]),
  enabled: z.boolean().default(true),
};

export const ruleSchema = z.discriminatedUnion(
  'type',
  [
    z.strictObject({ ...common, type: z.literal('query') }),
    z.strictObject({
      ...common,
      type: z.literal('threshold'),
      window: positive.optional(),
      threshold: z.strictObject(
        {
          value: count.optional(),
          cardinality: z.strictObject({ field, value: count.min(2, 'must be at least 2') }).optional(),
        },
        'a threshold needs a value, or cardinality with field and value',
      ),
      // biome-ignore lint/suspicious/noThenProperty: what people write; its value is a text
      then: query('must be a query, as in search').optional(),
    }),
    z.strictObject({
      ...common,
      type: z.literal('new_terms'),
      new_terms: z.strictObject(
        { fields, history: positive.optional(), warm_up: duration.default(0) },
        'needs fields and history',
      ),
    }),
    z.strictObject({
      ...common,
      type: z.literal('baseline'),
      baseline: z.strictObject(
        {
          of: z.enum(['rate', 'failures', 'latency'], 'must be rate, failures or latency'),
          interval: positive,
          deviations: z.number().min(1).max(100).default(4),
          min_volume: count.default(20),
          warm_up: duration.prefault('1d'),
        },
        'needs of and interval',
      ),
    }),
  ],
  { error: 'must be query, threshold, new_terms or baseline' },
);

export type RuleText = z.output<typeof ruleSchema>;
