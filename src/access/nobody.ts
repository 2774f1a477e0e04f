/** What libraries write when nobody is logged in, and what masking leaves. */
const NOBODY = /^(?:-|null|\(null\)|undefined|none|anonymous|anonymoususer|anonymous user|unknown|\*+)$/i;

/** The text, unless it stands for nobody. */
export function someone(text: string | undefined): string | undefined {
  return text === undefined || NOBODY.test(text) ? undefined : text;
}
