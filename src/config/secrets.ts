const SET = '(set)';
const SECRET_KEYS = /^(?:password|apiKey|secret|formerSecret|authorization|routingKey)$/i;

/** Settings as JSON for a person to look at, without passwords and keys. */
export function printableSettings(settings: object): string {
  return JSON.stringify(settings, hide, 2);
}

function hide(key: string, value: unknown): unknown {
  if (SECRET_KEYS.test(key) && value) return SET;
  if (typeof value !== 'object' || value === null) return value;
  // Whatever they are for, they may prove who we are.
  if (key === 'headers') return Object.fromEntries(Object.keys(value).map((name) => [name, SET]));
  // Whoever has the address of a chat's webhook can write there.
  if ('type' in value && 'url' in value && (value.type === 'slack' || value.type === 'teams'))
    return { ...value, url: SET };
  return value;
}
