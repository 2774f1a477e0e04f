import { z } from 'zod';

const patterns = z.union([z.string(), z.array(z.string()).min(1)]);
const when = z
  .record(z.string(), patterns)
  .describe(
    'Field of the record, attribute of its resource, log.event_name or scope.name → pattern or list of patterns.',
  );
const map = z.record(z.string(), z.union([z.string(), z.array(z.string())]));

interface RuleText {
  from: SourceText;
  when?: Record<string, string | string[]> | undefined;
  map?: Record<string, string | string[]> | undefined;
  join?: string | undefined;
  unit?: 's' | 'ms' | 'us' | 'ns' | undefined;
  decode?: 'base64' | undefined;
}
type SourceText = string | SourceText[] | RuleText;

/** A template, a list of which the first with a value counts, or a template with what is done to its value. */
const source: z.ZodType<SourceText, SourceText> = z.lazy(() =>
  z.union([
    z.string(),
    z.array(source),
    z.strictObject({
      from: source,
      when: when.optional(),
      map: map.optional(),
      join: z.string().optional(),
      unit: z.enum(['s', 'ms', 'us', 'ns']).optional(),
      decode: z.literal('base64').optional(),
    }),
  ]),
);
const fields = z.record(z.string(), source);

const parse = z.discriminatedUnion('as', [
  z.strictObject({ as: z.literal('json') }),
  z.strictObject({ as: z.literal('csv'), columns: z.array(z.string()).min(1) }),
  z.strictObject({ as: z.literal('regex'), patterns: z.array(z.string()).min(1) }),
  z.strictObject({ as: z.literal('postgres'), prefixes: z.array(z.string()).min(1) }),
]);

/** How other systems’ audit logs become access events: see docs/presets.md. */
export const mappings = z
  .array(
    z.strictObject({
      name: z.string().describe('Stands in audit.evidence[].source.'),
      preset: z
        .string()
        .optional()
        .describe(
          'The preset that this is a variant of. Without `fields` it reads as the preset does, only parsed otherwise.',
        ),
      when: when.optional(),
      parse: parse.optional().describe('How text becomes fields; JSON when left out.'),
      nothing: z.array(z.string()).optional().describe('Texts that stand for no value.'),
      extract: z
        .array(z.strictObject({ from: source, patterns: z.array(z.string()).min(1) }))
        .optional()
        .describe('Regular expressions (RE2) whose named groups become fields.'),
      fields: fields
        .optional()
        .describe('Field of the access event → template with ${path}, list of fallbacks, or rule.'),
      untraced: fields.optional().describe('The same, only for records that belong to no trace.'),
    }),
  )
  .default([])
  .describe('Further mappings of other systems’ logs to access events, tried before the presets: docs/presets.md.');

export const presets = z
  .array(z.string())
  .default(['*'])
  .describe('Presets in use, `*` for all: pgaudit, kubernetes, opa, cloudtrail, envoy, nginx, hoop, ecs.');
