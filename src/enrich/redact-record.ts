import { RE2JS } from 're2js';
import { remember } from '../access/attributes.ts';
import { AppError } from '../core/errors.ts';
import { FIELDS, findField } from '../core/fields.ts';
import type { AuditRecord } from '../core/record.ts';
import type { SecretKind } from '../core/secret-kinds.ts';
import { someText, TEXTS } from './record-texts.ts';

export interface RedactSettings {
  readonly kinds: readonly SecretKind[];
  readonly patterns: readonly { readonly name: string; readonly pattern: string; readonly replacement?: string }[];
  /** Names of fields that records do not get. */
  readonly fields: readonly string[];
}

/** What stands where something was taken out. */
export const REDACTED = '[redacted]';

/** Looks for one kind of secret; tells how often it was there. */
export interface Redactor {
  readonly name: string;
  readonly apply: (text: string) => { readonly text: string; readonly found: number };
}

/** Told of every rule that took something out of a text or a record. */
export type OnRedacted = (rule: string, found: number) => void;

/** A value without quotes: not what masking or this left, nor a parameter of a statement. */
const PLAIN = String.raw`(?!\[redacted\]|\?|\$\d|\*{3})[^\s"'&;,)}\]]{1,1000}`;

/** `name = value`, `name: "value"`, `"name":"value"`. */
function assignment(names: string, sign: string, plain: string): RegExp {
  const name = String.raw`\b([\w.-]{0,40}(?:${names}))`;
  const quoted = String.raw`"(?!\[redacted\]|\*{3})[^"]{1,1000}"|'(?!\[redacted\]|\*{3})[^']{1,1000}'`;
  return new RegExp(String.raw`${name}(["']?\s{0,4}${sign}\s{0,4})(?:${quoted}|${plain})`, 'gi');
}

/**
 * Linear in the text, each of them, and none fits what it leaves behind. `hint` is what every text holds in which one can be: most
 * texts are done with that.
 */
const KINDS: Readonly<Record<SecretKind, { readonly hint: RegExp; readonly rules: readonly [RegExp, string][] }>> = {
  private_key: {
    hint: /PRIVATE KEY/,
    rules: [
      [/-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----(?:(?!-----END)[\s\S])*(?:-----END [A-Z ]{0,30}-----)?/g, REDACTED],
    ],
  },
  // Prefixes as the issuers document them: AWS, GitHub, GitLab, Slack, Stripe, Google.
  cloud_key: {
    hint: /A[KS]IA|gh[pousr]_|github_pat_|glpat-|xox[abeprs]-|[rs]k_live_|AIza/,
    rules: [
      [/\bA[KS]IA[A-Z0-9]{16}\b/g, REDACTED],
      [/\b(?:gh[pousr]_\w{20,255}|github_pat_\w{20,255}|glpat-[\w-]{20,255}|xox[abeprs]-[\w-]{10,255})/g, REDACTED],
      [/\b(?:[rs]k_live_\w{16,255}|AIza[\w-]{35})/g, REDACTED],
    ],
  },
  token: {
    hint: /eyJ|bearer\s|basic\s/i,
    rules: [
      [/\beyJ[\w-]{8,}\.[\w-]{4,}\.[\w*-]*/g, REDACTED],
      [/\b(bearer|basic)\s{1,4}(?!\[redacted\])[\w.~+/=*-]{8,}/gi, `$1 ${REDACTED}`],
    ],
  },
  password: {
    hint: /passw|passphrase|pwd|secret|token|api.?key|access.?key|credential/i,
    rules: [
      [assignment('passw(?:or)?d|passphrase|pwd|api[_-]?key|access[_-]?key', '[=:]', PLAIN), `$1$2${REDACTED}`],
      [assignment('secret|token|credentials?', '=', PLAIN), `$1$2${REDACTED}`],
      // Prose has these before a colon, too: what follows must look like one.
      [assignment('secret|token|credentials?', ':', `(?=[a-z_-]{0,40}\\d)${PLAIN}`), `$1$2${REDACTED}`],
    ],
  },
  card_number: { hint: /\d(?:[ -]?\d){12}/, rules: [] },
  email: {
    hint: /@/,
    rules: [[/\b[\w.%+-]{1,64}@[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63}){1,8}\b/gi, REDACTED]],
  },
};

const CARD_NUMBER = /\b\d(?:[ -]?\d){12,18}\b/g;

/** The check digit of ISO/IEC 7812-1 (Luhn). */
function isCardNumber(digits: string): boolean {
  let sum = 0;
  for (let at = 0; at < digits.length; at++) {
    const digit = Number(digits[digits.length - 1 - at]);
    const weighted = at % 2 === 0 ? digit : digit * 2;
    sum += weighted > 9 ? weighted - 9 : weighted;
  }
  return sum % 10 === 0 && !/^0+$/.test(digits);
}

function kindRedactor(kind: SecretKind): Redactor {
  const { hint, rules } = KINDS[kind];
  const apply = (given: string) => {
    if (!hint.test(given)) return { text: given, found: 0 };
    let found = 0;
    let text = given;
    for (const [pattern, replacement] of rules) {
      found += text.match(pattern)?.length ?? 0;
      text = text.replace(pattern, replacement);
    }
    if (kind === 'card_number') {
      text = text.replace(CARD_NUMBER, (digits) => {
        if (!isCardNumber(digits.replace(/\D/g, ''))) return digits;
        found++;
        return REDACTED;
      });
    }
    return { text, found };
  };
  return { name: kind, apply };
}

/** Throws AppError `config` that names the pattern. */
function patternRedactor({ name, pattern, replacement = REDACTED }: RedactSettings['patterns'][number]): Redactor {
  let compiled: RE2JS;
  try {
    compiled = RE2JS.compile(pattern);
  } catch (cause) {
    const words = cause instanceof Error ? cause.message : String(cause);
    throw new AppError('config', `redact.patterns: "${name}": ${words}`, { cause });
  }
  if (compiled.matcher('').find()) {
    throw new AppError('config', `redact.patterns: "${name}": it fits the empty text, so it would fit everywhere`);
  }
  const literal = RE2JS.quoteReplacement(replacement);
  return {
    name,
    apply(text) {
      const matcher = compiled.matcher(text);
      let found = 0;
      while (matcher.find()) found++;
      return found === 0 ? { text, found } : { text: compiled.matcher(text).replaceAll(literal), found };
    },
  };
}

/** Without these a record is none, or nothing could find, order or prove it. */
const NEEDED =
  /^(?:@timestamp|message|data_stream\..+|event\.(?!reason$).+|audit\.(?:schema_version|entry|entry_id|revision|superseded_by|decision|actor\..+|join\..+|evidence\..+|target\.(?:type|id)))$/;

type Node = Record<string, unknown>;

/** Names of places as a tree, so that each part of a record is looked at once. */
interface Places {
  /** Texts, or lists of texts. */
  readonly texts: string[];
  readonly parts: Map<string, Places>;
}

function treeOf(names: readonly string[]): Places {
  const root: Places = { texts: [], parts: new Map() };
  for (const name of names) {
    const keys = name.split('.');
    let at = root;
    for (const key of keys.slice(0, -1)) {
      const next = at.parts.get(key) ?? { texts: [], parts: new Map() };
      at.parts.set(key, next);
      at = next;
    }
    at.texts.push(keys.at(-1) ?? '');
  }
  return root;
}

/** The node with its texts changed, through lists; the node itself when none was. Parts are shared with other records. */
function withTexts(node: unknown, { texts, parts }: Places, change: (text: string) => string): unknown {
  if (typeof node !== 'object' || node === null) return node;
  if (Array.isArray(node)) return eachOf(node, (item) => withTexts(item, { texts, parts }, change));
  let changed: Node | undefined;
  const set = (key: string, before: unknown, after: unknown): void => {
    if (after === before) return;
    changed ??= { ...(node as Node) };
    changed[key] = after;
  };
  for (const key of texts) {
    const value = (node as Node)[key];
    if (typeof value === 'string') set(key, value, change(value));
    else if (Array.isArray(value)) {
      set(
        key,
        value,
        eachOf(value, (item) => (typeof item === 'string' ? change(item) : item)),
      );
    }
  }
  for (const [key, places] of parts) {
    const part = (node as Node)[key];
    if (part !== undefined) set(key, part, withTexts(part, places, change));
  }
  return changed ?? node;
}

/** The list with each item changed; the list itself when none was. */
function eachOf(list: readonly unknown[], change: (item: unknown) => unknown): readonly unknown[] {
  let changed: unknown[] | undefined;
  for (let at = 0; at < list.length; at++) {
    const item = change(list[at]);
    if (item === list[at]) continue;
    changed ??= [...list];
    changed[at] = item;
  }
  return changed ?? list;
}

/** The node without what lies at the path, through lists; the node itself when nothing does. */
function without(node: unknown, path: readonly string[], depth: number): unknown {
  if (typeof node !== 'object' || node === null) return node;
  if (Array.isArray(node)) {
    const items = node.map((item) => without(item, path, depth));
    return items.some((item, at) => item !== node[at]) ? items : node;
  }
  const key = path[depth] ?? '';
  const { [key]: child, ...others } = node as Node;
  if (child === undefined) return node;
  if (depth === path.length - 1) return others;
  const less = without(child, path, depth + 1);
  return less === child ? node : { ...node, [key]: less };
}

/** The rules of the settings, for texts. Throws AppError `config`. */
export function compileRedactors(settings: RedactSettings): readonly Redactor[] {
  return [...settings.kinds.map(kindRedactor), ...settings.patterns.map(patternRedactor)];
}

/** A text without what the rules find. */
export function redactText(text: string, redactors: readonly Redactor[], onRedacted: OnRedacted): string {
  let result = text;
  for (const { name, apply } of redactors) {
    const applied = apply(result);
    if (applied.found === 0) continue;
    onRedacted(name, applied.found);
    result = applied.text;
  }
  return result;
}

/**
 * Takes out of records, in place, what the settings say: secrets in texts, whole fields. The same record and settings give the same
 * result, also when it is applied again. Throws AppError `config` that names what is wrong.
 */
export function createRecordRedaction(settings: RedactSettings, onRedacted: OnRedacted): (record: AuditRecord) => void {
  const redactors = compileRedactors(settings);
  const places = treeOf(TEXTS);
  const hints = settings.kinds.map((kind) => KINDS[kind].hint.source);
  const hint = settings.patterns.length > 0 ? ANYTHING : new RegExp(hints.join('|'), 'i');
  const mayHold = (text: string): boolean => hint.test(text);
  // Of the texts that many records have most are the same ones.
  const mayHoldOften = remember(mayHold);
  const change = (text: string): string => (mayHold(text) ? redactText(text, redactors, onRedacted) : text);
  const dropped = settings.fields.map((name) => ({ name, path: checkedField(name).split('.') }));
  return (record) => {
    for (const { name, path } of dropped) {
      const less = without(record, path, 0);
      if (less === record) continue;
      onRedacted(name, 1);
      // Parts are shared with other records, so they are replaced, not changed.
      Object.assign(record, less);
      for (const key of Object.keys(record)) if (!(key in (less as object))) Reflect.deleteProperty(record, key);
    }
    if (redactors.length === 0 || !someText(record, mayHold, mayHoldOften)) return;
    const changed = withTexts(record, places, change);
    if (changed !== record) Object.assign(record, changed);
  };
}

/** Fits every text: nobody knows what patterns of the settings look for. */
const ANYTHING = /^/;

function checkedField(name: string): string {
  const isKnown = findField(name) !== undefined || FIELDS.some((field) => field.name.startsWith(`${name}.`));
  if (!isKnown)
    throw new AppError(
      'config',
      `redact.fields: ${name} is no field of a record; they are named like url.query and user.email`,
    );
  if (NEEDED.test(name) || FIELDS.some((field) => field.name.startsWith(`${name}.`) && NEEDED.test(field.name))) {
    throw new AppError('config', `redact.fields: a record cannot be without ${name}`);
  }
  return name;
}
