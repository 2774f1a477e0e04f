import { z } from 'zod';
import { durationMs } from './values.ts';

/** Rules that watch what is stored: docs/rules.md. */
export const detect = z
  .strictObject({
    enabled: z.boolean().default(true).describe('Rules watch what is stored, and raise alerts.'),
    shippedRules: z.boolean().default(true).describe('The rules that come with Spantrail (deploy/rules) are in use.'),
    definitions: z
      .record(z.string().regex(/^[A-Za-z][A-Za-z0-9_-]*$/, 'must be letters, digits, dashes'), z.string())
      .default({})
      .describe('Name → query text that rules use as $name, e.g. sensitive: "audit.target.id: patients/*".'),
    rules: z
      .strictObject({
        files: z
          .array(z.string())
          .default([])
          .describe('Rule files (YAML), or folders of them. Read again when they change.'),
        off: z.array(z.string()).default([]).describe('Ids of rules that are not wanted.'),
        override: z
          .record(z.string(), z.record(z.string(), z.unknown()))
          .default({})
          .describe('Rule id → fields that stand in for those of its file, e.g. {refusals: {threshold: {value: 50}}}.'),
        reloadMs: durationMs('5s').describe('How often rule files are looked at for changes.'),
      })
      .prefault({}),
    latenessMs: durationMs('5m').describe(
      'Records that come later than others of their group by more than this, and the length of the window, count for no window.',
    ),
    groupsMax: z
      .int()
      .min(1)
      .max(1_000_000)
      .default(10_000)
      .describe('Groups (users, addresses …) that a rule remembers; the ones that were quiet for longest make room.'),
    entriesMax: z
      .int()
      .min(100)
      .max(10_000_000)
      .default(100_000)
      .describe('Matches in open windows that a rule remembers. Each takes about 400 bytes of memory.'),
    termsMax: z
      .int()
      .min(100)
      .max(10_000_000)
      .default(100_000)
      .describe('Values that a new_terms rule remembers. Each takes about 400 bytes of memory.'),
  })
  .prefault({});
