import type { Notice } from './notice.ts';

/** What a notice says, as plain text for every kind of channel. */
export interface Content {
  readonly title: string;
  readonly text: string;
  /** The alert's place in the API; undefined without `notify.baseUrl`. */
  readonly url: string | undefined;
}

export interface Template {
  readonly title?: string | undefined;
  readonly text?: string | undefined;
}

/** More than a subject line or a push message shows. */
const TITLE_CHARS_MAX = 200;
/** Below what Slack (3,000 a block) takes. */
const TEXT_CHARS_MAX = 2800;

const TITLE = '[${severity}] ${rule.name}${told}';
const TEXT = '${reason}\n\n${facts}';

type Values = Readonly<Record<string, string>>;

function valuesOf({ alert, change, ...notice }: Notice, url: string | undefined): Values {
  const last = alert.history.at(-1);
  const by = change === 'raised' ? '' : oneLine(last?.by ?? '');
  const note = change === 'raised' ? '' : oneLine(last?.note ?? '');
  const group = Object.entries(alert.group).map(([field, value]) => `${field}: ${oneLine(value)}`);
  const count = `${alert.count}${alert.atLeast ? ' or more' : ''}`;
  const { rule } = alert;
  const facts: (readonly [string, string])[] = [
    ['Rule', `${rule.name} (${rule.id})`],
    ['Severity', rule.severity],
    ['Namespace', alert.namespace],
    ['Of', group.join(', ')],
    ['Accesses', count],
    ['First', alert.firstAt],
    ['Last', alert.lastAt],
    [change === 'closed' ? 'Closed by' : 'Acknowledged by', by],
    ['Note', note],
    ['Records', alert.records.slice(0, 5).join(', ')],
    ['Alert', alert.id],
    ['References', (rule.references ?? []).join(', ')],
    ['See', url ?? ''],
  ];
  return {
    ...{ id: alert.id, key: notice.key, change, reason: oneLine(alert.reason), severity: rule.severity },
    ...{ 'rule.id': rule.id, 'rule.name': rule.name, 'rule.type': rule.type, tags: (rule.tags ?? []).join(', ') },
    ...{ references: (rule.references ?? []).join(', '), namespace: alert.namespace, group: group.join(', ') },
    ...{ state: alert.state, by, note, count, value: `${alert.value ?? ''}`, threshold: `${alert.threshold ?? ''}` },
    ...{ firstAt: alert.firstAt, lastAt: alert.lastAt, raisedAt: alert.raisedAt, url: url ?? '' },
    ...{ records: alert.records.join(', '), traces: alert.traces.join(', ') },
    told: change === 'raised' ? '' : `: ${change} by ${by}`,
    facts: facts
      .filter(([, value]) => value !== '')
      .map(([name, value]) => `${name}: ${value}`)
      .join('\n'),
  };
}

/** Names that a template may use, besides `group.` and a field. */
const NAMES: ReadonlySet<string> = new Set([
  ...['id', 'key', 'change', 'reason', 'severity', 'rule.id', 'rule.name', 'rule.type', 'tags', 'references'],
  ...['namespace', 'group', 'state', 'by', 'note', 'count', 'value', 'threshold', 'firstAt', 'lastAt', 'raisedAt'],
  ...['url', 'records', 'traces', 'told', 'facts'],
]);

const PLACE = /\$\{([^}]*)\}/g;

/** The first name in the template that there is not; undefined when all are known. */
export function unknownName(template: string): string | undefined {
  const names = [...template.matchAll(PLACE)].map((match) => match[1] ?? '');
  return names.find((name) => !NAMES.has(name) && !/^group\.[@a-z_.]+$/.test(name));
}

export const TEMPLATE_NAMES = [...NAMES].filter((name) => name !== 'told').join(', ');

/** Values are put in as they are, but on one line, and not looked at for places again. */
export function contentOf(notice: Notice, template: Template, baseUrl: string | undefined): Content {
  const url = baseUrl === undefined ? undefined : new URL(`api/v1/alerts/${notice.alert.id}`, asFolder(baseUrl)).href;
  const values = valuesOf(notice, url);
  const fill = (text: string) =>
    text.replace(PLACE, (_, name: string) =>
      name.startsWith('group.') ? oneLine(notice.alert.group[name.slice(6)] ?? '') : (values[name] ?? ''),
    );
  return {
    title: cut(oneLine(fill(template.title ?? TITLE)), TITLE_CHARS_MAX),
    text: cut(printable(fill(template.text ?? TEXT)).trim(), TEXT_CHARS_MAX),
    url,
  };
}

function asFolder(url: string): string {
  return url.endsWith('/') ? url : `${url}/`;
}

/** Without control characters and marks that turn the direction of text: what senders wrote must not pass for ours. */
function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this finds
  return text.replace(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, ' ');
}

/** A line end in a value would let it pass for another of our lines. */
function oneLine(text: string): string {
  return printable(text).replace(/\s+/g, ' ').trim();
}

export function cut(text: string, length: number): string {
  const letters = [...text];
  return letters.length > length ? `${letters.slice(0, length - 1).join('')}…` : text;
}
