import { z } from 'zod';

/** What is left out of records beyond what is masked: docs/redaction.md. */
export const redact = z.strictObject({}).prefault({});
