import { z } from 'zod';
import { durationMs } from './values.ts';

const issuer = z
  .strictObject({
    issuer: z.string().min(1),
    audience: z.array(z.string()).optional(),
    keysUrl: z
      .url({ protocol: /^https?$/, error: 'must be an address like https://login.example.com/keys' })
      .optional(),
    keysFile: z.string().optional(),
    secret: z.string().min(1).optional(),
  })
  .refine(
    ({ keysUrl, keysFile, secret }) => [keysUrl, keysFile, secret].filter((key) => key !== undefined).length === 1,
    {
      error: 'needs one of keysUrl (a JWK set), keysFile (a JWK set or PEM) and secret (HS256)',
    },
  );

const tokens = z
  .strictObject({
    issuers: z
      .array(issuer)
      .default([])
      .describe(
        'Who signs the tokens in captured headers, each with `issuer` (the claim `iss`), `keysUrl`, `keysFile` or `secret`, and `audience` (list). None: tokens are read and not checked. As soon as one is named, tokens that do not pass name nobody.',
      ),
    leewayMs: durationMs('1m').describe('How far clocks may disagree about when a token begins and ends.'),
    refreshMs: durationMs('10m')
      .refine((interval) => interval >= 1000, 'must be at least 1s')
      .describe('Keys are read again this often, and soon after a token names a key that is not known.'),
  })
  .prefault({});

const sessions = z
  .strictObject({
    attributes: z
      .array(z.string())
      .default(['session.id', 'session.previous_id'])
      .describe('Attributes that hold the id of a session: a keyed hash takes its place before it is stored anywhere.'),
    cookies: z
      .array(z.string())
      .default([
        'JSESSIONID',
        'SESSION',
        'PHPSESSID',
        'ASP.NET_SessionId',
        'connect.sid',
        'sessionid',
        'session_id',
        '_session_id',
        'sid',
        'laravel_session',
        'rack.session',
        '_oauth2_proxy',
        'next-auth.session-token',
        'authjs.session-token',
      ])
      .describe(
        'Cookies that are sessions: of captured cookie headers only their names stay, with a keyed hash as value. `__Host-` and `__Secure-` may stand in front.',
      ),
    keepMs: durationMs('24h').describe(
      'Whose session it is is forgotten when nothing named both for this long. 0: never known.',
    ),
    max: z.int().min(1).max(1_000_000).default(100_000).describe('Sessions whose owners are known at once.'),
    keyFile: z
      .string()
      .optional()
      .describe(
        'Key of the hash (32 bytes in base64). Default: `session-key` in the data folder, made at the first start.',
      ),
  })
  .prefault({});

/** Tokens, sessions and baggage that say who calls: docs/identity.md. */
export const identity = z.strictObject({ tokens, sessions }).prefault({});
