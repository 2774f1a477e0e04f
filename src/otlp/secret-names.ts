/** Names of parameters that are remembered; senders that make up names without end must not fill the memory. */
const REMEMBERED_MAX = 2000;

/** Names by patterns in which `*` stands for any characters. ASCII letters match in either case, `-` matches `_`. */
export class SecretNames {
  readonly #pattern: RegExp;
  readonly #known = new Map<string, boolean>();

  constructor(patterns: readonly string[]) {
    const alternatives = patterns.map((pattern) =>
      fold(pattern)
        .split('*')
        .map((part) => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&'))
        .join('[^]*'),
    );
    this.#pattern = new RegExp(alternatives.length === 0 ? '(?!)' : `^(?:${alternatives.join('|')})$`);
  }

  /** Is the name secret, as it stands or with its percent-escapes undone? */
  has(name: string): boolean {
    let isSecret = this.#known.get(name);
    if (isSecret === undefined) {
      isSecret = this.#pattern.test(fold(name)) || (name.includes('%') && this.#pattern.test(fold(unescaped(name))));
      if (this.#known.size >= REMEMBERED_MAX) this.#known.clear();
      this.#known.set(name, isSecret);
    }
    return isSecret;
  }
}

function fold(name: string): string {
  return name.replaceAll('_', '-').toLowerCase();
}

function unescaped(name: string): string {
  return name.replace(/%([0-9a-f]{2})/gi, (_escape: string, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
}
