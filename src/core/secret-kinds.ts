/** Kinds of secrets that are known by their own shape, whatever the name before them. */
export const SECRET_KINDS = ['private_key', 'cloud_key', 'token', 'password', 'card_number', 'email'] as const;

export type SecretKind = (typeof SECRET_KINDS)[number];

export const REDACTED_BY_DEFAULT: readonly SecretKind[] = ['private_key', 'cloud_key', 'token', 'password'];
