import { z } from 'zod';
import { REDACTED_BY_DEFAULT, SECRET_KINDS } from '../core/secret-kinds.ts';

/** What is left out of records beyond what is masked: docs/redaction.md. */
export const redact = z
  .strictObject({
    kinds: z
      .array(z.enum(SECRET_KINDS))
      .default([...REDACTED_BY_DEFAULT])
      .describe(
        'Secrets that are looked for in the texts of records (reasons, errors, statements, paths, targets, sentences) and replaced by [redacted]. card_number and email are not by default: ids may look like the one, actors are often the other.',
      ),
    patterns: z
      .array(
        z.strictObject({
          name: z.string().min(1),
          pattern: z.string().min(1),
          replacement: z.string().optional(),
        }),
      )
      .default([])
      .describe(
        'Further texts to replace in records: a regular expression (RE2: no look-around, no back-references) and what to write instead, `[redacted]` by default. What it is called is the label of the counter.',
      ),
    fields: z
      .array(z.string())
      .default([])
      .describe(
        'Fields that records do not get at all, e.g. url.query, source.ip, user.email. What a record cannot be without is refused.',
      ),
  })
  .prefault({});
