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
  const first = glob[0] as string;
  const end = glob.length - 1;
  if (end === 0) return text === first;
  if (!text.startsWith(first)) return false;
  let position = first.length;
  for (let index = 1; index < end; index++) {
    const piece = glob[index] as string;
    const found = text.indexOf(piece, position);
    if (found < 0) return false;
    position = found + piece.length;
  }
  const last = glob[end] as string;
  return text.length - last.length >= position && text.endsWith(last);
}

/** A test for a list of patterns of which one must fit; plain texts cost one look-up together, as do endings (`*.css`). */
export function anyGlob(patterns: readonly string[]): (text: string) => boolean {
  const exact = new Set(patterns.filter((pattern) => !pattern.includes('*')));
  const isEnding = (pattern: string): boolean => /^\*\.[^.*]*$/.test(pattern);
  const endings = new Set(patterns.filter(isEnding).map((pattern) => pattern.slice(1)));
  // Whatever is longer need not be hashed to know that it is none of them.
  const exactMax = Math.max(0, ...[...exact].map((pattern) => pattern.length));
  const endingMax = Math.max(0, ...[...endings].map((pattern) => pattern.length));
  const globs = patterns.filter((pattern) => pattern.includes('*') && !isEnding(pattern)).map(globOf);
  return (text) => {
    if (text.length <= exactMax && exact.has(text)) return true;
    const dot = endingMax === 0 ? -1 : text.lastIndexOf('.');
    if (dot >= 0 && text.length - dot <= endingMax && endings.has(text.slice(dot))) return true;
    for (const glob of globs) if (fitsGlob(glob, text)) return true;
    return false;
  };
}
