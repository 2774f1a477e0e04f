import { z } from 'zod';

/** The part of the contract that is about insights and the report. */

const INSIGHT_ROWS_MAX = 10_000;

const range = {
  from: z.string().default('-7d').describe('Earliest @timestamp: RFC 3339, or back from now like -15m, -2h, -7d'),
  to: z.string().default('now').describe('@timestamp before this, written like `from`'),
  namespace: z.string().optional().describe('Only this namespace'),
};

const sensitive = z
  .string()
  .optional()
  .describe('Which accesses are sensitive, as a query; without it the definition `sensitive` of the rules');

export const insightQuery = z.strictObject({
  q: z.string().default('').describe('Only these accesses: a query, as in /api/v1/records'),
  ...range,
  inner: z
    .enum(['true', 'false'])
    .default('false')
    .transform((text) => text === 'true')
    .describe('true looks at inner accesses too, where the insight does not decide that itself'),
  limit: z.coerce.number().int().min(1).max(INSIGHT_ROWS_MAX).default(20).describe('Rows of a table at most'),
  by: z.enum(['mean', 'sum', 'max']).default('mean').describe('slowest, statements: what makes slow'),
  min: z.coerce
    .number()
    .int()
    .min(1)
    .max(1_000_000)
    .default(5)
    .describe('slowest, statements: only those of so many accesses'),
  known_from: z
    .string()
    .optional()
    .describe('permissions, targets: what roles used from here on is known; 90 days before `from` without it'),
  sensitive,
});

export const reportQuery = z.strictObject({
  ...range,
  sensitive,
  format: z.enum(['json', 'md', 'html']).default('json').describe('The document, as JSON, Markdown or one HTML file'),
});

const record = { action: 'view', target: 'insight' };

export const INSIGHT_ROUTES = [
  { path: '/api/v1/insights', summary: 'The insights there are', answers: 'json' as const, needs: 'read' as const },
  {
    path: '/api/v1/insights/{name}',
    summary: 'One insight: a question that is always the same, over what is stored',
    query: insightQuery,
    answers: 'json' as const,
    needs: 'read' as const,
    record,
  },
  {
    path: '/api/v1/report',
    summary: 'What a reviewer looks at for one stretch of time',
    query: reportQuery,
    answers: 'json' as const,
    needs: 'read' as const,
    record: { action: 'view', target: 'report' },
  },
];
