import type { z } from 'zod';
import type { Permission } from '../auth/principal.ts';

/** What the contract says of each route. */

/** How asking for something is told in the record of it. */
export interface ReadName {
  /** `event.action` of the record. */
  readonly action: string;
  /** `audit.target.type`; its id is the path's parameter, else the query. */
  readonly target: string;
}

export interface Route {
  /** GET when absent. */
  readonly method?: 'POST' | 'DELETE';
  readonly path: string;
  readonly summary: string;
  readonly query?: z.ZodObject;
  readonly answers: 'json' | 'ndjson' | 'sse' | 'text' | 'html';
  /** What one must be allowed to do; where nothing is named, anybody is answered. */
  readonly needs?: Permission;
  /** Asking makes a record, where it is known who asks. */
  readonly record?: ReadName;
  /** Whoever may not see it is answered with the page that asks for a token. */
  readonly shell?: true;
}

/** What the browser's page lives on: not for programs. */
export const SESSION_ROUTES: readonly Route[] = [
  {
    path: '/',
    summary: 'The newest accesses, for people',
    answers: 'html',
    needs: 'read',
    record: { action: 'search', target: 'audit_records' },
    shell: true,
  },
  {
    method: 'POST',
    path: '/login',
    summary: 'Begins a session of the page with a token',
    answers: 'html',
    record: { action: 'login', target: 'session' },
  },
  { method: 'POST', path: '/logout', summary: 'Ends a session of the page', answers: 'html' },
];
