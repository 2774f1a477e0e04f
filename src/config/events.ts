import { z } from 'zod';
import { durationMs } from './values.ts';

const secret = z.string().min(8, 'must have at least 8 characters, or anybody could guess it');

/** Webhooks of other systems at POST /v1/events/{preset}: docs/webhooks.md. */
export const events = z
  .record(
    z.string(),
    z.strictObject({
      secret: z
        .union([z.array(secret).min(1), secret])
        .transform((given) => (typeof given === 'string' ? [given] : given))
        .describe('What the sender signs with, or several while one is replaced; better given as ${env:NAME}.'),
      scheme: z
        .enum(['standard_webhooks', 'github', 'bearer'])
        .optional()
        .describe('The proof that must be there. Without it, whichever of the three the request has.'),
      toleranceMs: durationMs('5m').describe('How far the time of a signature may be from ours: the replay window.'),
    }),
  )
  .default({})
  .describe(
    'By preset: what proves the sender of POST /v1/events/{preset}: `secret` (or a list), `scheme` (standard_webhooks, github, bearer), `toleranceMs`. See docs/webhooks.md.',
  );
