import { parseDocument } from 'yaml';
import { z } from 'zod';
import { AppError } from '../core/errors.ts';
import { bytes } from './values.ts';

/** Kept for senders without a name of their own, so that nobody passes for one of them. */
const RESERVED_NAMES = ['grpc', 'http', 'access_api', 'webhook', 'browser', 'untrusted', 'spantrail'];

const name = z
  .string()
  .regex(
    /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/,
    'must be 1 to 63 letters, digits, ".", "_" and "-", starting with a letter or digit',
  )
  .refine((name) => !RESERVED_NAMES.includes(name), `must not be one of ${RESERVED_NAMES.join(', ')}`);

const moment = z
  .union([
    z.iso.datetime({ offset: true }),
    z.iso.date('must be a time such as 2027-01-31T00:00:00Z, or a date: its first moment in UTC'),
  ])
  .transform((text) => Date.parse(text));

/** What the bearer of a token or certificate may do. */
const rights = {
  name,
  can: z
    .array(z.enum(['send', 'read', 'monitor', 'operate']))
    .min(1, 'must name at least one of send, read, monitor, operate'),
  signals: z
    .array(z.enum(['traces', 'logs', 'metrics', 'access', 'events']))
    .min(1)
    .optional(),
  presets: z.array(z.string().min(1)).min(1).optional(),
  namespaces: z
    .array(z.string().regex(/^[a-z0-9][a-z0-9_-]{0,62}$/, 'must be 1 to 63 of a-z, 0-9, "-" and "_"'))
    .min(1)
    .optional(),
  quota: z
    .strictObject({ itemsPerSecond: z.number().positive().optional(), bytesPerSecond: bytes.optional() })
    .optional(),
  expiresAt: moment.optional(),
  revoked: z.boolean().default(false),
  trusted: z.boolean().default(true),
  vouches: z.boolean().default(false),
};

const token = z.strictObject({
  ...rights,
  hash: z
    .string()
    .regex(/^sha256:[0-9a-f]{64}$/, 'must be sha256: and 64 hex digits, as "spantrail token create" prints it'),
});

const tokens = z.array(token).superRefine(checkNames);

const certificate = z
  .strictObject({
    ...rights,
    fingerprint: z
      .string()
      .transform((text) =>
        text
          .replace(/^sha256[:\s]/i, '')
          .replaceAll(':', '')
          .toLowerCase(),
      )
      .pipe(z.string().regex(/^[0-9a-f]{64}$/, 'must be the SHA-256 of the certificate: 64 hex digits, colons or not'))
      .optional(),
    subject: z.record(z.string(), z.string().min(1)).optional(),
    san: z
      .string()
      .regex(/^(?:DNS|URI|IP Address|email):./, 'must be like DNS:agent.example or URI:spiffe://…')
      .optional(),
  })
  .refine(({ fingerprint, subject, san }) => fingerprint ?? subject ?? san, {
    error: 'needs fingerprint, subject or san: how to know the certificate',
  });

/** One name is one sender, so that trust must not depend on which of its credentials it came with. */
function checkNames(
  entries: readonly { name: string; trusted: boolean; vouches: boolean }[],
  context: z.RefinementCtx,
): void {
  entries.forEach((entry, index) => {
    const other = entries.find((each) => each.name === entry.name && each !== entry);
    if (other && (other.trusted !== entry.trusted || other.vouches !== entry.vouches)) {
      const message = `"${entry.name}" is there more than once, as one sender: trusted and vouches must be the same`;
      context.addIssue({ code: 'custom', path: [index, 'name'], message });
    }
  });
}

const RIGHTS_TEXT =
  '`can` (send, read, monitor, operate), and where it is to be less than all `signals`, `presets`, `namespaces`, `quota` (itemsPerSecond, bytesPerSecond), `expiresAt`, `revoked`, `trusted`, `vouches`';

/** Who may send, read and operate: docs/senders.md. */
export const auth = z
  .strictObject({
    tokens: tokens
      .default([])
      .describe(
        `Bearer tokens, as \`spantrail token create\` prints them: \`name\`, \`hash\`, ${RIGHTS_TEXT}. As soon as anybody is named, all must prove who they are.`,
      ),
    tokensFile: z
      .string()
      .min(1)
      .optional()
      .describe(
        'YAML file with further `tokens`; read again when it is replaced, so that tokens come and go without a restart.',
      ),
    certificates: z
      .array(certificate)
      .superRefine(checkNames)
      .default([])
      .describe(
        `Clients’ certificates that stand for somebody: \`name\`, \`fingerprint\`, \`subject\` (such as { CN: agent }) or \`san\` (\`*\` as wildcard), ${RIGHTS_TEXT}.`,
      ),
  })
  .prefault({});

export type AuthSettings = z.output<typeof auth>;

const tokensFile = z.strictObject({ tokens: z.array(token).superRefine(checkNames) });

/** The tokens that a file has. Throws AppError('config') with a line that says what is wrong where. */
export function readTokens(text: string): AuthSettings['tokens'] {
  const document = parseDocument(text, { prettyErrors: true });
  const [broken] = document.errors;
  if (broken) throw new AppError('config', broken.message.split('\n')[0]?.replace(/:$/, '') ?? 'no YAML');
  const parsed = tokensFile.safeParse(document.toJS() ?? {});
  if (parsed.success) return parsed.data.tokens;
  const [issue] = parsed.error.issues;
  throw new AppError('config', `${issue?.path.join('.') || 'the file'}: ${issue?.message}`);
}
