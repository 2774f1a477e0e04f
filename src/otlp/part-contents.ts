import type { KnownPart } from '../core/span-rows.ts';

/** A known part by its number, and what it says. */
export class PartContents implements KnownPart {
  readonly number: number;
  isClean = false;
  /** Nearly always it comes from senders of one trust, and this is looked at for every span. */
  #trust = -1;
  #content: object | undefined;
  #others: Map<number, object | undefined> | undefined;

  constructor(number: number) {
    this.number = number;
  }

  contentOf(trust: number): object | undefined {
    return trust === this.#trust ? this.#content : this.#others?.get(trust);
  }

  setContent(trust: number, content: object | undefined): void {
    if (this.#trust < 0) this.#trust = trust;
    if (trust === this.#trust) this.#content = content;
    else {
      this.#others ??= new Map();
      this.#others.set(trust, content);
    }
  }
}
