/**
 * The JSON text of a record as stores keep it. Half a surrogate pair (a text that was cut, or a sender's escape) has no
 * UTF-8 form and would make strict JSON readers refuse the document: it becomes U+FFFD.
 */
export function documentText(record: object): string {
  const text = JSON.stringify(record);
  // JSON.stringify escapes lone halves, and nothing else, as \ud…; a text that says so itself only takes the longer way.
  if (!text.includes('\\ud')) return text;
  return JSON.stringify(record, (_, value: unknown) =>
    typeof value === 'string' ? value.replace(/\p{Surrogate}/gu, '\ufffd') : value,
  );
}
