import type { DuckDBConnection } from '@duckdb/node-api';
import type { FormGaps, RecordWrite } from '../../core/settlement.ts';
import { appendNarrow } from './chunks.ts';
import { type FormRow, KnownForm } from './known-form.ts';

/** Records that are written whole before their form is stored: one that hardly comes again would take more room than they do. */
const USES_MIN = 4;

/** Bytes of texts of forms that are kept: with more, those that were not used since the half of it was seen make way. */
const BYTES_KEPT = 32 * 1024 * 1024;

/** A document that is written by its form, as its number and what stands in the gaps. */
export interface FormedText {
  readonly number: number;
  readonly form: KnownForm;
  readonly bytes: Buffer;
}

/**
 * What documents of one form share is stored once, in the table `forms`: nearly all of what they are. A form is known by a digest of its
 * text, so that another run finds it again. It is trusted with nothing: only a record that has the very bytes of its form around its
 * gaps is written by it.
 */
export class StoredForms {
  #recent = new Map<FormGaps, KnownForm>();
  #older = new Map<FormGaps, KnownForm>();
  #bytes = 0;
  /** The number that the next form gets; undefined where the table has to be asked. */
  #next: bigint | undefined;

  /**
   * For each of the writes how its document is written by its form; undefined where it is written whole. Forms that the table does not
   * have are added, within the transaction of the writes. What is returned as well is to be called when it is committed.
   */
  async add(
    connection: DuckDBConnection,
    writes: readonly RecordWrite[],
  ): Promise<{ readonly texts: readonly (FormedText | undefined)[]; readonly committed: () => void }> {
    const found = writes.map((write) => this.#find(write));
    const forms = new Set<KnownForm>();
    for (const item of found) if (item && item.form.number === undefined) forms.add(item.form);
    const wanted = [...forms].filter(({ uses }) => uses >= USES_MIN);
    const { numbers, next } = await this.#numbersOf(connection, wanted);
    return {
      texts: found.map((item) => {
        const number = item && (item.form.number ?? numbers.get(item.form));
        return item && number !== undefined ? { ...item, number: Number(number) } : undefined;
      }),
      committed: () => {
        for (const [form, number] of numbers) form.number = number;
        this.#next = next;
      },
    };
  }

  #find(write: RecordWrite): { form: KnownForm; bytes: Buffer } | undefined {
    const gaps = write.form?.gaps;
    const bytes = gaps && write.json?.();
    if (gaps === undefined || bytes?.length !== gaps.size || gaps.ranges.length === 0) return undefined;
    let form = this.#recent.get(gaps) ?? this.#keep(this.#older.get(gaps) ?? KnownForm.of(gaps, bytes));
    if (!form.fits(bytes)) {
      const other = form.withLessSame(bytes);
      if (!other?.fits(bytes)) return undefined;
      form = this.#keep(other);
    }
    form.uses++;
    return { form, bytes };
  }

  /** After the file was opened again: it may be another one. */
  forget(): void {
    this.#recent = new Map();
    this.#older = new Map();
    this.#bytes = 0;
    this.#next = undefined;
  }

  #keep(form: KnownForm): KnownForm {
    if (this.#bytes > BYTES_KEPT / 2) {
      this.#older = this.#recent;
      this.#recent = new Map();
      this.#bytes = 0;
    }
    this.#recent.set(form.gaps, form);
    this.#bytes += form.text.length;
    return form;
  }

  /** The numbers of these forms in the table, which is given those that it does not have. */
  async #numbersOf(
    connection: DuckDBConnection,
    forms: readonly KnownForm[],
  ): Promise<{ readonly numbers: ReadonlyMap<KnownForm, bigint>; readonly next: bigint | undefined }> {
    const numbers = new Map<KnownForm, bigint>();
    if (forms.length === 0) return { numbers, next: this.#next };
    const rows = forms.map((form) => form.row());
    const byDigest = new Map<string, bigint>();
    const digests = rows.map(({ digest }) => `'${digest}'`).join(', ');
    const found = await connection.runAndReadAll(`SELECT digest, number FROM forms WHERE digest IN (${digests})`);
    for (const [digest, number] of found.getRows()) byDigest.set(String(digest), BigInt(String(number)));
    let next = this.#next ?? (await nextNumber(connection));
    // Until the transaction is known to be committed it may be so or not.
    this.#next = undefined;
    const added: ({ readonly number: bigint } & FormRow)[] = [];
    for (const [at, form] of forms.entries()) {
      const row = rows[at] as FormRow;
      let number = byDigest.get(row.digest);
      if (number === undefined) {
        number = next++;
        byDigest.set(row.digest, number);
        added.push({ ...row, number });
      }
      numbers.set(form, number);
    }
    await appendNarrow(connection, 'forms', null, [
      added.map(({ number }) => number),
      added.map(({ digest }) => digest),
      added.map(({ parts }) => parts),
      added.map(({ places }) => places),
    ]);
    return { numbers, next };
  }
}

async function nextNumber(connection: DuckDBConnection): Promise<bigint> {
  const found = await connection.runAndReadAll('SELECT coalesce(max(number), 0) + 1 FROM forms');
  return BigInt(String(found.getRows()[0]?.[0] ?? 1));
}
