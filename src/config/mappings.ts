import { z } from 'zod';

/** How other systems’ audit logs become access events: see docs/presets.md. */
export const mappings = z
  .array(z.strictObject({ name: z.string() }))
  .default([])
  .describe('Further mappings of audit logs to access events, tried before the presets.');
