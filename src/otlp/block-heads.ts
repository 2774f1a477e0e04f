import { AttributeTable } from '../core/attribute-table.ts';
import type { Resource, Scope } from '../core/evidence.ts';
import type { KeySet } from './key-set.ts';
import type { Layout } from './layout.ts';
import type { SpanContents } from './span-contents.ts';
import type { ValueReader } from './value.ts';
import { WIRE } from './wire.ts';

/** Tags of opentelemetry-proto 1.x: the first field of a block is its resource or scope, see Layout. */
const BLOCK_HEAD = (1 << 3) | WIRE.delimited;
const RESOURCE = { attributes: (1 << 3) | WIRE.delimited } as const;
const SCOPE = { name: (1 << 3) | WIRE.delimited, version: (2 << 3) | WIRE.delimited } as const;

/** Of one block. */
interface Head<Of> {
  readonly head: Of;
  /** Attributes that could not be decoded and are left out. */
  readonly unreadable: number;
  /** The same object stands for it wherever its bytes come again. */
  readonly isShared: boolean;
}

/** The resources and scopes of one payload, each decoded once, or not at all where its bytes are known from payloads before. */
export class BlockHeads {
  readonly #values: ValueReader;
  readonly #layout: Layout;
  readonly #keys: KeySet;
  readonly #contents: SpanContents | undefined;
  readonly #resources: (Head<Resource> | undefined)[] = [];
  readonly #scopes: (Head<Scope> | undefined)[] = [];

  constructor(values: ValueReader, layout: Layout, keys: KeySet, contents: SpanContents | undefined) {
    this.#values = values;
    this.#layout = layout;
    this.#keys = keys;
    this.#contents = contents;
  }

  /** The resource of the scope block with this number. */
  resourceOf(scope: number): Resource {
    return this.#resource(scope).head;
  }

  /** Attributes left out of it. */
  unreadableOf(scope: number): number {
    return this.#resource(scope).unreadable;
  }

  scopeOf(scope: number): Scope {
    return this.#scope(scope).head;
  }

  /** Do the same objects stand for resource and scope wherever their bytes come again? */
  areShared(scope: number): boolean {
    return this.#resource(scope).isShared && this.#scope(scope).isShared;
  }

  #resource(scope: number): Head<Resource> {
    const layout = this.#layout;
    const index = layout.resourceOf(scope);
    const known = this.#resources[index];
    if (known !== undefined) return known;
    const start = layout.resourceStart(index);
    const end = layout.resourceEnd(index);
    const found = this.#shared('resource', start, end, () => {
      const attributes = new AttributeTable();
      let unreadable = 0;
      this.#fields(start, end, (tag, headEnd) => {
        if (tag !== RESOURCE.attributes) this.#values.cursor.skip(tag, headEnd);
        else if (!this.#values.attribute(headEnd, this.#keys, attributes)) unreadable++;
      });
      return { head: { attributes }, unreadable };
    });
    this.#resources[index] = found;
    return found;
  }

  #scope(index: number): Head<Scope> {
    const known = this.#scopes[index];
    if (known !== undefined) return known;
    const start = this.#layout.scopeStart(index);
    const end = this.#layout.scopeEnd(index);
    const found = this.#shared('scope', start, end, () => {
      const head = { name: '', version: '' };
      this.#fields(start, end, (tag, headEnd) => {
        if (tag === SCOPE.name) head.name = this.#values.text(headEnd);
        else if (tag === SCOPE.version) head.version = this.#values.text(headEnd);
        else this.#values.cursor.skip(tag, headEnd);
      });
      return { head, unreadable: 0 };
    });
    this.#scopes[index] = found;
    return found;
  }

  #shared<Of extends Resource | Scope>(
    kind: 'resource' | 'scope',
    start: number,
    end: number,
    make: () => Pick<Head<Of>, 'head' | 'unreadable'>,
  ): Head<Of> {
    const bytes = this.#contents && this.#solePiece(start, end)?.toString('latin1');
    const known = bytes === undefined ? undefined : this.#contents?.head<Of>(kind, bytes);
    if (known !== undefined) return { head: known, unreadable: 0, isShared: true };
    const made = make();
    const isShared =
      bytes !== undefined && made.unreadable === 0 && this.#contents?.keepHead(kind, bytes, made.head) === true;
    return { ...made, isShared };
  }

  /** The bytes of a block's resource or scope when they are in one piece. */
  #solePiece(start: number, end: number): Buffer | undefined {
    const cursor = this.#values.cursor;
    cursor.position = start;
    let sole: Buffer | undefined;
    while (cursor.position < end) {
      const tag = cursor.tag(end);
      if (tag === BLOCK_HEAD) {
        if (sole !== undefined) return undefined;
        const headEnd = cursor.delimitedEnd(end);
        sole = this.#values.bytes(cursor.position, headEnd);
        cursor.position = headEnd;
      } else cursor.skip(tag, end);
    }
    return sole;
  }

  /** Visits the fields of a block's resource or scope. It may be given in several parts, which count as one message. */
  #fields(start: number, end: number, visit: (tag: number, end: number) => void): void {
    const cursor = this.#values.cursor;
    cursor.position = start;
    while (cursor.position < end) {
      const tag = cursor.tag(end);
      if (tag !== BLOCK_HEAD) {
        cursor.skip(tag, end);
        continue;
      }
      const headEnd = cursor.delimitedEnd(end);
      while (cursor.position < headEnd) visit(cursor.tag(headEnd), headEnd);
    }
  }
}
