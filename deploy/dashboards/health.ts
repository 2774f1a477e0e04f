/** Spantrail's own metrics, as Prometheus reads them from `/metrics` on the API's port. */

export interface HealthPanel {
  readonly kind: 'number' | 'timeline';
  readonly title: string;
  readonly text: string;
  readonly unit: string;
  readonly queries: readonly { readonly expression: string; readonly legend: string }[];
  /** From this value on the number is red. */
  readonly redFrom?: number;
  /** In a grid of 48 columns. */
  readonly width: number;
  readonly height: number;
}

const HERE = '{instance=~"$instance"}';
const rate = (metric: string, by: string) => `sum by (${by}) (rate(${metric}${HERE}[$__rate_interval]))`;
const sum = (metric: string, by?: string) => `sum${by === undefined ? '' : ` by (${by})`} (${metric}${HERE})`;
const highest = (metric: string) => `max by (instance) (${metric}${HERE})`;

const SMALL = { width: 6, height: 6 } as const;
const HALF = { width: 24, height: 12 } as const;

export const HEALTH: readonly HealthPanel[] = [
  {
    kind: 'number',
    title: 'Unaccounted for',
    text: 'Evidence or records of which no place is known. Anything but 0 means that something was lost.',
    unit: 'short',
    queries: [{ expression: `sum (abs(spantrail_unaccounted${HERE}))`, legend: 'items' }],
    redFrom: 1,
    ...SMALL,
  },
  {
    kind: 'number',
    title: 'Refusing',
    text: '1 while evidence is refused: the room for what waits is used up, memory or the disk is short.',
    unit: 'short',
    queries: [{ expression: `max (spantrail_refusing${HERE})`, legend: 'refusing' }],
    redFrom: 1,
    ...SMALL,
  },
  {
    kind: 'number',
    title: 'Store failing',
    text: '1 from a write that failed until one works again. Evidence is taken meanwhile.',
    unit: 'short',
    queries: [{ expression: `max (spantrail_store_failing${HERE})`, legend: 'failing' }],
    redFrom: 1,
    ...SMALL,
  },
  {
    kind: 'number',
    title: 'Oldest not stored',
    text: 'How far the store is behind.',
    unit: 'ms',
    queries: [{ expression: `max (spantrail_wal_lag_ms${HERE})`, legend: 'lag' }],
    redFrom: 60_000,
    ...SMALL,
  },
  {
    kind: 'number',
    title: 'Room used up',
    text: 'Evidence that is not stored yet, as a share of `wal.unsettledBytesMax`. At 100 % senders are refused.',
    unit: 'percentunit',
    queries: [
      {
        expression: `max (spantrail_wal_unsettled_bytes${HERE} / spantrail_wal_unsettled_bytes_max${HERE})`,
        legend: 'share',
      },
    ],
    redFrom: 0.8,
    ...SMALL,
  },
  {
    kind: 'number',
    title: 'In quarantine',
    text: 'What the store will never take as it is, and nobody has looked at.',
    unit: 'short',
    queries: [{ expression: sum('spantrail_quarantine_open'), legend: 'items' }],
    redFrom: 1,
    ...SMALL,
  },
  {
    kind: 'number',
    title: 'Damaged log',
    text: 'Parts that were taken out of the write-ahead log and kept beside it.',
    unit: 'short',
    queries: [{ expression: sum('spantrail_wal_damaged_files'), legend: 'files' }],
    redFrom: 1,
    ...SMALL,
  },
  {
    kind: 'number',
    title: 'Horizon',
    text: 'Late evidence younger than this still joins its trace.',
    unit: 'ms',
    queries: [{ expression: `min (spantrail_horizon_ms${HERE})`, legend: 'horizon' }],
    ...SMALL,
  },
  {
    kind: 'timeline',
    title: 'Accepted',
    text: 'Spans, log records and data points acknowledged.',
    unit: 'cps',
    queries: [{ expression: rate('spantrail_accepted_total', 'signal'), legend: '{{signal}}' }],
    ...HALF,
  },
  {
    kind: 'timeline',
    title: 'Refused or cut',
    text: 'Items refused before the acknowledgement, and requests cut for a limit.',
    unit: 'cps',
    queries: [
      { expression: rate('spantrail_rejected_total', 'signal, reason'), legend: '{{signal}} {{reason}}' },
      { expression: rate('spantrail_cut_total', 'transport, reason'), legend: '{{transport}} {{reason}}' },
    ],
    ...HALF,
  },
  {
    kind: 'timeline',
    title: 'Requests answered',
    text: 'By transport and status.',
    unit: 'reqps',
    queries: [
      { expression: rate('spantrail_requests_total', 'transport, status'), legend: '{{transport}} {{status}}' },
    ],
    ...HALF,
  },
  {
    kind: 'timeline',
    title: 'Records',
    text: 'Settled, durably written, written again as a revision, and ignored because the store held a higher rank.',
    unit: 'cps',
    queries: [
      { expression: rate('spantrail_records_total', 'instance'), legend: 'settled {{instance}}' },
      { expression: rate('spantrail_written_total', 'instance'), legend: 'written {{instance}}' },
      { expression: rate('spantrail_revisions_total', 'instance'), legend: 'revised {{instance}}' },
      { expression: rate('spantrail_outranked_total', 'instance'), legend: 'outranked {{instance}}' },
    ],
    ...HALF,
  },
  {
    kind: 'timeline',
    title: 'Store',
    text: 'Batches written again after the store failed, and what was set aside.',
    unit: 'cps',
    queries: [
      { expression: rate('spantrail_write_retries_total', 'instance'), legend: 'retries {{instance}}' },
      { expression: rate('spantrail_quarantined_total', 'stage'), legend: 'quarantined {{stage}}' },
    ],
    ...HALF,
  },
  {
    kind: 'timeline',
    title: 'Why traces settled',
    text: 'Many by idle or maximum age: roots or parents do not come.',
    unit: 'cps',
    queries: [{ expression: rate('spantrail_settled_total', 'reason'), legend: '{{reason}}' }],
    ...HALF,
  },
  {
    kind: 'timeline',
    title: 'What became of evidence',
    text: 'Used, context, excluded, duplicate, expired, quarantined.',
    unit: 'cps',
    queries: [{ expression: rate('spantrail_evidence_total', 'signal, use'), legend: '{{signal}} {{use}}' }],
    ...HALF,
  },
  {
    kind: 'timeline',
    title: 'Traces in the index',
    text: 'Open, and stored but still within the horizon.',
    unit: 'short',
    queries: [
      { expression: highest('spantrail_traces_open'), legend: 'open {{instance}}' },
      { expression: highest('spantrail_traces_stored'), legend: 'stored {{instance}}' },
    ],
    ...HALF,
  },
  {
    kind: 'timeline',
    title: 'Disk',
    text: 'The write-ahead log, what of it still waits, and what is free.',
    unit: 'bytes',
    queries: [
      { expression: highest('spantrail_wal_bytes'), legend: 'log {{instance}}' },
      { expression: highest('spantrail_wal_unsettled_bytes'), legend: 'waiting {{instance}}' },
      { expression: highest('spantrail_disk_free_bytes'), legend: 'free {{instance}}' },
      { expression: highest('spantrail_quarantine_bytes'), legend: 'quarantine {{instance}}' },
    ],
    ...HALF,
  },
  {
    kind: 'timeline',
    title: 'Being received',
    text: 'Bytes of requests in flight, and connections.',
    unit: 'short',
    queries: [
      { expression: highest('spantrail_in_flight_bytes'), legend: 'bytes {{instance}}' },
      { expression: highest('spantrail_connections'), legend: 'connections {{instance}}' },
    ],
    ...HALF,
  },
  {
    kind: 'timeline',
    title: 'Gaps in coverage',
    text: 'What is known to be missing in the last 24 hours, by kind; `spantrail coverage` names them.',
    unit: 'short',
    queries: [{ expression: sum('spantrail_coverage_gaps', 'kind'), legend: '{{kind}}' }],
    ...HALF,
  },
  {
    kind: 'timeline',
    title: 'Secrets and credentials',
    text: 'Values overwritten before they reached the disk, and what checking tokens came to.',
    unit: 'cps',
    queries: [
      { expression: rate('spantrail_masked_total', 'instance'), legend: 'masked {{instance}}' },
      { expression: rate('spantrail_tokens_total', 'verdict'), legend: 'tokens {{verdict}}' },
    ],
    ...HALF,
  },
];
