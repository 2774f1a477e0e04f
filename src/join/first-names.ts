/**
 * Numbers names, and remembers those that come first in order, however many there are. A name that was let go gets another
 * number when it comes again, and is let go again.
 */
export class FirstNames {
  readonly #namesMax: number;
  readonly #numbers = new Map<string, number>();
  #last = 0;

  constructor(namesMax: number) {
    this.#namesMax = namesMax;
  }

  /** Above zero; zero for no name. */
  numberOf(name: string | undefined): number {
    if (name === undefined) return 0;
    const known = this.#numbers.get(name);
    if (known !== undefined) return known;
    this.#numbers.set(name, ++this.#last);
    if (this.#numbers.size >= 2 * this.#namesMax) this.#trim();
    return this.#last;
  }

  /** The first names in order among all that were given, by number. */
  first(): ReadonlyMap<number, string> {
    this.#trim();
    return new Map([...this.#numbers].map(([name, number]) => [number, name]));
  }

  #trim(): void {
    for (const name of [...this.#numbers.keys()].sort().slice(this.#namesMax)) this.#numbers.delete(name);
  }
}
