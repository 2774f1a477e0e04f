import { z } from 'zod';

/** Tokens, sessions and baggage that say who calls: docs/identity.md. */
export const identity = z.strictObject({}).prefault({});
