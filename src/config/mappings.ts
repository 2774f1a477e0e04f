import { z } from 'zod';

/** How other systems’ audit logs become access events: see docs/presets.md. */
export const mappings = z.array(z.strictObject({ name: z.string() })).default([]);
