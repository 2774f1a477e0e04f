import type { FastifyInstance, FastifyReply } from 'fastify';
import type { AccessControl } from './access.ts';
import { answerPage, pageAddress, renderDoor } from './page.ts';
import type { Sessions } from './session.ts';

/** A token and an address of ours. */
const FORM_BYTES_MAX = 16 * 1024;

interface LoginParts {
  readonly sessions: Sessions;
  readonly control: Pick<AccessControl, 'admit'>;
}

/**
 * The page's way in and out: a form with a token, and a cookie for it that scripts cannot read and other sites cannot send. The token
 * is never part of an address.
 */
export function addLogin(server: FastifyInstance, { sessions, control }: LoginParts): void {
  server.register(async (scope) => {
    const asForm = { parseAs: 'string', bodyLimit: FORM_BYTES_MAX } as const;
    scope.addContentTypeParser('application/x-www-form-urlencoded', asForm, async (_request: unknown, body: unknown) =>
      Object.fromEntries(new URLSearchParams(String(body))),
    );
    scope.post('/login', async (request, reply) => {
      const given = (request.body ?? {}) as Readonly<Record<string, unknown>>;
      const [token, next] = [textOf(given['token']), textOf(given['next'])];
      const authorization = `Bearer ${token.trim()}`;
      const verdict = control.admit(request, authorization);
      if (verdict.kind !== 'known') {
        const status = verdict.kind === 'forbidden' ? 403 : 401;
        return answerPage(reply.code(status), renderDoor({ next, message: verdict.message }));
      }
      sessions.end(request.headers.cookie);
      return away(reply.header('set-cookie', sessions.begin(authorization)), next);
    });
    scope.post('/logout', async (request, reply) =>
      away(reply.header('set-cookie', sessions.end(request.headers.cookie)), ''),
    );
  });
}

/** A body of JSON may hold anything. */
function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

/** Back to a page of ours, whatever the form said. */
function away(reply: FastifyReply, next: string): FastifyReply {
  return reply.redirect(pageAddress(Object.fromEntries(new URLSearchParams(next))), 303);
}
