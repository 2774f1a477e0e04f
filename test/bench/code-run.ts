/** How much code was run, by its place: a count that does not depend on how fast or how busy a machine is. */
export type CodeRun = Readonly<Record<string, number>>;

interface Range {
  readonly startOffset: number;
  readonly endOffset: number;
  readonly count: number;
}

export interface ScriptCoverage {
  readonly url: string;
  readonly functions: readonly { readonly ranges: readonly Range[] }[];
}

/**
 * Characters of source that were run, times how often they were: each function's own code and the blocks in it. Functions within
 * a function are counted for themselves, so what is told of one includes their text only as often as it was made.
 */
export function codeRun(scripts: readonly ScriptCoverage[]): CodeRun {
  const run: Record<string, number> = {};
  for (const { url, functions } of scripts) {
    const place = placeOf(url);
    // A script's text itself is run once, when it is loaded.
    for (const { ranges } of functions) {
      if (ranges[0]?.startOffset !== 0) run[place] = (run[place] ?? 0) + charactersRun(ranges);
    }
  }
  return run;
}

/** A range's count holds for what no range within it covers. The first is the function, the others come in the order of their starts. */
function charactersRun(ranges: readonly Range[]): number {
  let characters = 0;
  const around: Range[] = [];
  for (const range of ranges) {
    while (around.length > 0 && (around.at(-1)?.endOffset ?? 0) <= range.startOffset) around.pop();
    const length = range.endOffset - range.startOffset;
    characters += length * (range.count - (around.at(-1)?.count ?? 0));
    around.push(range);
  }
  return characters;
}

/** A file of `src`, a package, or Node. */
function placeOf(url: string): string {
  const [, folder, file] = /\/src\/([^/]+)\/(.+)$/.exec(url) ?? [];
  if (url.includes('/node_modules/')) return /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(url)?.[1] ?? 'packages';
  return folder === undefined ? 'node' : `${folder}/${file}`;
}
