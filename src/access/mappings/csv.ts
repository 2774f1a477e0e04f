/** Fields of a row. Server logs have about thirty. */
const FIELDS_MAX = 128;

/**
 * The fields of one row in the form of RFC 4180: quoted fields hold commas, line breaks and doubled quotes. What is not whole is
 * read as far as it goes: a quote that is never closed (a statement whose lines came one by one) takes the rest, and what follows
 * a closing quote belongs to the field.
 */
export function readCsvRow(text: string): string[] {
  const fields: string[] = [];
  let at = 0;
  while (fields.length < FIELDS_MAX) {
    let field = '';
    if (text[at] === '"') {
      for (;;) {
        const quote = text.indexOf('"', at + 1);
        if (quote < 0) return [...fields, field + text.slice(at + 1)];
        field += text.slice(at + 1, quote);
        at = quote + 1;
        if (text[at] !== '"') break;
        field += '"';
      }
    }
    const comma = text.indexOf(',', at);
    fields.push(field + text.slice(at, comma < 0 ? text.length : comma));
    if (comma < 0) break;
    at = comma + 1;
  }
  return fields;
}
