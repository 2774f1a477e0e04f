import { RE2JS } from 're2js';
import { AppError } from '../core/errors.ts';
import { FIELDS, findField } from '../core/fields.ts';
import type { AuditRecord } from '../core/record.ts';
import type { SecretKind } from '../core/secret-kinds.ts';

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

/** Texts in which a sender can put anything. Ids, names of services and who acted are what a record is for. */
const TEXTS: readonly string[] = [
  'message',
  'event.reason',
  'url.path',
  'url.query',
  'url.full',
  'http.route',
  'db.statement',
  'error.message',
  'error.stack_trace',
  'user_agent.original',
  'file.path',
  'file.name',
  'rule.name',
  'audit.target.id',
  'audit.target.name',
  'audit.entry_target',
  'audit.denied_by',
  'audit.purpose',
  'audit.change.before',
  'audit.change.after',
  'audit.checks.permission',
  'audit.checks.target',
  'audit.checks.rule',
  'audit.error_origin.name',
  'audit.error_origin.message',
  'audit.path.name',
  'audit.trace.root.name',
  'audit.trace.critical_path.name',
  'audit.db.slowest',
  'audit.join.conflicts',
];

/** Without these a record is none, or nothing could find, order or prove it. */
const NEEDED =
  /^(?:@timestamp|message|data_stream\..+|event\.(?!reason$).+|audit\.(?:schema_version|entry|entry_id|revision|superseded_by|decision|actor\..+|join\..+|evidence\..+|target\.(?:type|id)))$/;

type Node = Record<string, unknown>;

interface Place {
  readonly name: string;
  readonly keys: readonly string[];
  readonly last: string;
}

function placeOf(name: string): Place {
  const keys = name.split('.');
  return { name, keys: keys.slice(0, -1), last: keys.at(-1) ?? '' };
}

/** The objects that hold the place's last name, through lists. */
function visit(node: unknown, keys: readonly string[], depth: number, act: (holder: Node) => void): void {
  if (typeof node !== 'object' || node === null) return;
  if (Array.isArray(node)) {
    for (const item of node) visit(item, keys, depth, act);
  } else if (depth === keys.length) act(node as Node);
  else visit((node as Node)[keys[depth] ?? ''], keys, depth + 1, act);
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
  const texts = redactors.length === 0 ? [] : TEXTS.map(placeOf);
  const hints = settings.kinds.map((kind) => KINDS[kind].hint.source);
  const hint = settings.patterns.length > 0 ? ANYTHING : new RegExp(hints.join('|'), 'i');
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
    for (const { keys, last } of texts) {
      visit(record, keys, 0, (holder) =>
        redactAt(holder, last, hint, (text) => redactText(text, redactors, onRedacted)),
      );
    }
  };
}

/** Fits every text: nobody knows what patterns of the settings look for. */
const ANYTHING = /^/;

function redactAt(holder: Node, key: string, hint: RegExp, redact: (text: string) => string): void {
  const value = holder[key];
  if (typeof value === 'string') {
    if (hint.test(value)) holder[key] = redact(value);
  } else if (Array.isArray(value)) {
    for (const [at, item] of value.entries()) {
      if (typeof item === 'string' && hint.test(item)) value[at] = redact(item);
    }
  }
}

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
