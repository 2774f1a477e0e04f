import { z } from 'zod';
import { durationMs } from './values.ts';

const issuer = z
  .strictObject({
    issuer: z.string().min(1),
    audience: z.array(z.string()).optional(),
    signer: z.string().optional(),
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
        'Who signs the tokens in captured headers, each with `issuer` (the claim `iss`), `keysUrl`, `keysFile` or `secret`, where it is needed `audience` (list) and `signer`. None: tokens are read and not checked. As soon as one is named, tokens that do not pass name nobody.',
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

const names = (byDefault: readonly string[], text: string) =>
  z
    .array(z.string().min(1))
    .default([...byDefault])
    .describe(text);

/** Defaults follow RFC 7519, RFC 8693 and OpenID Connect, and what the large providers use. */
const claims = z
  .strictObject({
    id: names(
      ['sub', 'nameidentifier', 'userId'],
      'Claims of a token that hold the id of its subject; the first that is there counts. A dot leads into an object, unless a claim has the whole name.',
    ),
    name: names(
      ['preferred_username', 'username', 'cognito:username', 'upn', 'unique_name', 'name', 'userDetails'],
      'Claims that hold its name.',
    ),
    email: names(['email', 'emailaddress'], 'Claims that hold its mail address.'),
    roles: names(['roles', 'role', 'realm_access.roles', 'userRoles'], 'Claims that hold its roles.'),
    groups: names(['groups', 'cognito:groups'], 'Claims that are taken for roles where there are none.'),
    actor: names(['act.sub'], 'Claims that hold who acts with the token on behalf of its subject.'),
    client: names(['client_id', 'azp', 'appid'], 'Claims that hold the program it was issued to.'),
  })
  .prefault({});

const baggageUsers = names(
  ['user.id', 'enduser.id', 'userId', 'user_id', 'userid', 'username', 'user'],
  'Names in baggage that hold the id of a user. Its other fields have the names of the record there: user.name, user.roles …',
);

/** Tokens, sessions and baggage that say who calls: docs/identity.md. */
export const identity = z.strictObject({ tokens, claims, sessions, baggageUsers }).prefault({});
