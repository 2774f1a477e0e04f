import type { DuckDBConnection } from '@duckdb/node-api';
import { SEPARATOR } from './schema.ts';

/** Characters of forms that are kept: with more, those that nobody asked for since the half of it was read make way. */
const CHARS_KEPT = 16 * 1024 * 1024;

export interface FormText {
  readonly parts: readonly string[];
  /** Which of a row's texts stands behind each part but the last, from 0 on. */
  readonly places: readonly number[];
}

/** The forms that documents are read by. What is stored of a form never changes. */
export class FormTexts {
  #recent = new Map<bigint, FormText>();
  #older = new Map<bigint, FormText>();
  #chars = 0;

  /** After the file was opened again: it may be another one. */
  forget(): void {
    this.#recent = new Map();
    this.#older = new Map();
    this.#chars = 0;
  }

  /** Forms by their numbers; those that are not known are read. */
  async load(connection: DuckDBConnection, numbers: readonly bigint[]): Promise<ReadonlyMap<bigint, FormText>> {
    const wanted = new Map<bigint, FormText>();
    const missing = new Set<bigint>();
    if (this.#chars > CHARS_KEPT / 2) {
      this.#older = this.#recent;
      this.#recent = new Map();
      this.#chars = 0;
    }
    for (const number of numbers) {
      if (wanted.has(number)) continue;
      const known = this.#recent.get(number) ?? this.#older.get(number);
      if (known === undefined) missing.add(number);
      else wanted.set(number, this.#keep(number, known));
    }
    if (missing.size === 0) return wanted;
    const sql = `SELECT number, parts, places FROM forms WHERE number IN (${[...missing].join(', ')})`;
    const found = await connection.runAndReadAll(sql);
    for (const [number, parts, places] of found.getRows()) {
      const text = { parts: String(parts).split(SEPARATOR), places: String(places).split(',').map(placeOf) };
      wanted.set(BigInt(String(number)), this.#keep(BigInt(String(number)), text));
    }
    return wanted;
  }

  #keep(number: bigint, form: FormText): FormText {
    if (this.#recent.has(number)) return form;
    this.#recent.set(number, form);
    for (const part of form.parts) this.#chars += part.length;
    return form;
  }
}

/** The document of a form whose gaps have these texts. */
export function filled(form: FormText | undefined, gaps: string): string {
  if (form === undefined) throw new Error('the form of a document is not stored');
  const { parts, places } = form;
  const texts = gaps.split(SEPARATOR);
  let document = parts[0] as string;
  for (let part = 1; part < parts.length; part++) {
    document += (texts[places[part - 1] as number] as string) + (parts[part] as string);
  }
  return document;
}

/** Places are counted from 1 on, as SQL does. */
function placeOf(text: string): number {
  return Number(text) - 1;
}
