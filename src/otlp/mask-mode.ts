/**
 * What to do with a value:
 * - `search`: its key is not secret, but there may be secret keys, parameters or tokens inside
 * - `body`: the same, and there may be JSON anywhere in it
 * - `header`: the same as `search`, and it may be a token
 * - `url`: the same as `search`, and it is a URL or a part of one
 * - `group`: the same as `search`, and ids of sessions may be among its members
 * - `baggage`: the same as `search`, and it is a list of names and values
 * - `authorization`, `token`, `cookie`: only what says who it was is not secret
 * - `session`: a keyed hash takes its place
 * - `all`: all text, bytes and numbers in it are secret
 */
export type Mode = 'search' | 'body' | 'header' | 'url' | 'baggage' | 'group' | Proof;

export type Proof = 'authorization' | 'token' | 'cookie' | 'session' | 'all';

export function isProof(mode: Mode): mode is Proof {
  switch (mode) {
    case 'authorization':
    case 'token':
    case 'cookie':
    case 'session':
    case 'all':
      return true;
    default:
      return false;
  }
}

/** Attributes that hold credentials of HTTP: what says who it was stays, what proves it goes. */
const AUTHORIZATION = /authorization$/i;
const COOKIE = /(?:^|[._-])cookie$/i;

/** How the value of an attribute is masked that is named as secret. */
export function modeOfSecret(key: string): Proof {
  if (AUTHORIZATION.test(key)) return 'authorization';
  return COOKIE.test(key) ? 'cookie' : 'all';
}
