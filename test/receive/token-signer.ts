import { exportJWK, generateKeyPair, type JSONWebKeySet, type JWTPayload, SignJWT } from 'jose';

/** An issuer with keys made up for the test. */
export interface Signer {
  readonly jwks: JSONWebKeySet;
  sign(claims: JWTPayload, header?: Record<string, string | undefined>): Promise<string>;
}

export async function makeSigner(kid = 'key-1', alg = 'ES256'): Promise<Signer> {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
  return {
    jwks: { keys: [{ ...(await exportJWK(publicKey)), kid, alg, use: 'sig' }] },
    sign: (claims, header = {}) => new SignJWT(claims).setProtectedHeader({ alg, kid, ...header }).sign(privateKey),
  };
}
