import type { estypes } from '@elastic/elasticsearch';
import { formatTimestamp } from '../../core/clock.ts';
import type { Connection, ElasticsearchSettings } from './connection.ts';

/** Current records, and the earlier states of records that were replaced. */
export type IndexKind = 'audit' | 'revisions';

export type IndexPeriod = ElasticsearchSettings['indexPeriod'];

const DAY_MS = 86_400_000;
const DAY_NS = BigInt(DAY_MS) * 1_000_000n;

/** Index of a record: by namespace and UTC period of its `@timestamp`, e.g. `spantrail-audit-default-2026.11.22`. */
export function indexName(namespace: string, timestampNs: bigint, period: IndexPeriod): string {
  return `${namespacePrefix('audit', namespace)}-${periodName(timestampNs, period)}`;
}

/** The names of indices that were asked for last, one for each namespace: most records of a time are of one day. */
export class IndexNames {
  readonly #period: IndexPeriod;
  readonly #last = new Map<string, { readonly dayNs: bigint; readonly name: string }>();

  constructor(period: IndexPeriod) {
    this.#period = period;
  }

  of(namespace: string, timestampNs: bigint): string {
    const last = this.#last.get(namespace);
    const sinceNs = timestampNs - (last?.dayNs ?? 0n);
    if (last !== undefined && sinceNs >= 0n && sinceNs < DAY_NS) return last.name;
    const name = indexName(namespace, timestampNs, this.#period);
    // No period ends within a day of UTC.
    this.#last.set(namespace, { dayNs: timestampNs - (timestampNs % DAY_NS), name });
    return name;
  }
}

/** What a read names: every index of a namespace, or of all of them. Matching none is no error. */
export function indexPattern(kind: IndexKind, namespace?: string): string {
  return namespace === undefined ? `spantrail-${kind}-*` : `${namespacePrefix(kind, namespace)}-*`;
}

export const ALL_INDICES: readonly string[] = [indexPattern('audit'), indexPattern('revisions')];

/** Where an earlier state is kept: beside its own period, so that both are retired together. */
export function revisionsIndexOf(auditIndex: string): string {
  return auditIndex.replace('spantrail-audit-', 'spantrail-revisions-');
}

export function namespacePrefix(kind: IndexKind, namespace: string): string {
  return `spantrail-${kind}-${namespace.toLowerCase().replace(/[^a-z0-9_-]/g, '_')}`;
}

function periodName(timestampNs: bigint, period: IndexPeriod): string {
  const day = formatTimestamp(timestampNs).slice(0, 10);
  if (period === 'day') return day.replaceAll('-', '.');
  if (period === 'month') return day.slice(0, 7).replace('-', '.');
  // ISO 8601: a week belongs to the year of its Thursday.
  const thursday = new Date(`${day}T00:00:00Z`);
  thursday.setUTCDate(thursday.getUTCDate() + 4 - (thursday.getUTCDay() || 7));
  const days = (thursday.getTime() - Date.UTC(thursday.getUTCFullYear(), 0, 1)) / DAY_MS;
  return `${thursday.getUTCFullYear()}.w${String(Math.floor(days / 7) + 1).padStart(2, '0')}`;
}

/** A namespace holds no dots, so that what follows its last dash tells the period, whichever setting made it. */
const PERIOD = /^spantrail-(?:audit|revisions)-[a-z0-9_-]+-(\d{4})\.(?:w(\d{2})|(\d{2})(?:\.(\d{2}))?)$/;

/** End of the period that an index is for, exclusive, epoch milliseconds; undefined for a name that is not one of ours. */
export function periodEndMs(index: string): number | undefined {
  const [, year, week, month, day] = PERIOD.exec(index) ?? [];
  if (year === undefined) return undefined;
  if (week !== undefined) {
    // The fourth of January is always in the first week; weeks begin on Monday.
    const fourth = new Date(Date.UTC(Number(year), 0, 4));
    const firstMonday = fourth.getTime() - ((fourth.getUTCDay() || 7) - 1) * DAY_MS;
    return firstMonday + Number(week) * 7 * DAY_MS;
  }
  const monthIndex = Number(month) - 1;
  if (day === undefined) return Date.UTC(Number(year), monthIndex + 1, 1);
  return Date.UTC(Number(year), monthIndex, Number(day)) + DAY_MS;
}

/** One group of settings of every index, e.g. `blocks`; an index that has none of it is not among the answers. */
export async function readIndexSettings(
  connection: Connection,
  group: 'blocks' | 'provided_name',
): Promise<Map<string, Readonly<Record<string, unknown>>>> {
  const answer = await connection.request((client) =>
    client.indices.getSettings({
      index: [...ALL_INDICES],
      filter_path: `*.settings.index.${group}`,
      ignore_unavailable: true,
      expand_wildcards: ['open', 'closed'],
    }),
  );
  const states = Object.entries(answer as Record<string, estypes.IndicesIndexState>);
  return new Map(states.map(([index, { settings }]) => [index, { ...(settings?.index?.[group] as object) }]));
}
