/** The literal pieces between the `*` of a pattern: `kube-probe/*` is `['kube-probe/', '']`. */
export type Glob = readonly string[];

export function globOf(pattern: string): Glob {
  return pattern.split('*');
}

/**
 * Does the whole text fit? `*` stands for any characters, none included; letter case counts. The time is linear in the text
 * for every pattern, because settling must not stall on what a sender wrote.
 */
export function fitsGlob(glob: Glob, text: string): boolean {
  const [first = '', ...others] = glob;
  const last = others.pop();
  if (last === undefined) return text === first;
  if (!text.startsWith(first)) return false;
  let position = first.length;
  for (const piece of others) {
    const found = text.indexOf(piece, position);
    if (found < 0) return false;
    position = found + piece.length;
  }
  return text.length - last.length >= position && text.endsWith(last);
}
