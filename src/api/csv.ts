import { type Field, fieldValues } from '../core/fields.ts';
import type { AuditRecord } from '../core/record.ts';

/** One line of CSV (RFC 4180), CRLF included. */
function csvLine(values: readonly string[]): string {
  return `${values.map(csvCell).join(',')}\r\n`;
}

/** Spreadsheets run cells that start like a formula; an apostrophe in front keeps them text. */
function csvCell(value: string): string {
  const safe = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

export function csvHeader(fields: readonly Field[]): string {
  return `${fields.map((field) => field.name).join(',')}\r\n`;
}

/** The values of the fields in their order; several values of one field are separated by `; `. */
export function csvRow(record: AuditRecord, fields: readonly Field[]): string {
  return csvLine(fields.map((field) => fieldValues(record, field.name).map(String).join('; ')));
}
