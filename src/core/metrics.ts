/**
 * The catalogue of Spantrail's own metrics and the plain counters behind them. Stages add to counters; src/app exports
 * them to Prometheus and OpenTelemetry, and `GET /api/v1/pipeline` and `doctor` read the same numbers.
 */
export const METRICS = {
  accepted: { unit: '{item}', kind: 'counter', text: 'Spans, log records and data points acknowledged, by signal.' },
  rejected: {
    unit: '{item}',
    kind: 'counter',
    text: 'Items refused before the acknowledgement, by signal and reason.',
  },
  repeated: {
    unit: '{item}',
    kind: 'counter',
    text: 'Access events left out because their request has the same event already, by signal.',
  },
  unmapped: {
    unit: '{item}',
    kind: 'counter',
    text: 'Items of webhooks that no mapping of their preset takes, kept as context, by preset.',
  },
  requests: { unit: '{request}', kind: 'counter', text: 'Requests answered, by transport, signal and status.' },
  cut: {
    unit: '{request}',
    kind: 'counter',
    text: 'Requests and connections refused or cut for a limit, by transport and reason.',
  },
  unauthenticated: {
    unit: '{request}',
    kind: 'counter',
    text: 'Requests that did not prove who sent them, by reason: missing, malformed, unknown, expired, revoked.',
  },
  forbidden: {
    unit: '{request}',
    kind: 'counter',
    text: 'Requests of known senders and readers that they may not make, by reason: permission, signal, preset, namespace.',
  },
  over_quota: {
    unit: '{request}',
    kind: 'counter',
    text: 'Requests refused for the quota of their sender, by sender.',
  },
  sender_items: {
    unit: '{item}',
    kind: 'counter',
    text: 'Spans, log records and data points that came with a token or certificate, by sender.',
  },
  sender_bytes: { unit: 'By', kind: 'counter', text: 'Bytes of evidence that came with one, by sender.' },
  reads: {
    unit: '{request}',
    kind: 'counter',
    text: 'Questions to the API of known people that were recorded before they were answered, by outcome: answered, refused.',
  },
  reads_unrecorded: {
    unit: '{request}',
    kind: 'counter',
    text: 'Refusals, and ends of answers, that were not recorded, by reason: flood, unavailable.',
  },
  tls_refused: {
    unit: '{connection}',
    kind: 'counter',
    text: 'Connections refused in TLS, by listener and reason: missing, unknown, expired, revoked, no_crl, protocol, busy.',
  },
  tls_reload_failures: {
    unit: '{attempt}',
    kind: 'counter',
    text: 'Replaced certificates that could not be used, by listener; those before are used on.',
  },
  tls_certificate_ends: {
    unit: 's',
    kind: 'gauge',
    text: 'When the server’s certificate ends, in seconds since 1970, by listener.',
  },
  reload_failing: {
    unit: '1',
    kind: 'gauge',
    text: '1 while a replaced file (certificates, tokens) cannot be used and what was read before counts on, by file.',
  },
  in_flight_bytes: { unit: 'By', kind: 'gauge', text: 'Bytes of requests that are being received.' },
  in_flight_requests: { unit: '{request}', kind: 'gauge', text: 'Requests that are being received.' },
  connections: { unit: '{connection}', kind: 'gauge', text: 'Connections of senders.' },
  masked: { unit: '{value}', kind: 'counter', text: 'Secrets overwritten before the append.' },
  credentials: {
    unit: '{value}',
    kind: 'counter',
    text: 'Values that came in captured headers and the like and hold credentials, by kind: authorization, token, cookie.',
  },
  tokens: {
    unit: '{token}',
    kind: 'counter',
    text: 'Distinct tokens of a request, by what became of checking them: verified, unchecked, expired …',
  },
  token_keys: {
    unit: '{key_set}',
    kind: 'gauge',
    text: 'Key sets of issuers by state: ready, stale (could not be read again), missing.',
  },
  sessions: {
    unit: '{session}',
    kind: 'counter',
    text: 'Distinct sessions that requests name, by owner: known, unknown, contested (two people were seen in it), too_many.',
  },
  sessions_known: { unit: '{session}', kind: 'gauge', text: 'Sessions whose owner is known.' },
  tied: {
    unit: '{record}',
    kind: 'counter',
    text: 'Log records without a trace id that were given the one that they name, by how: see `audit.join.tie`.',
  },
  redacted: { unit: '{text}', kind: 'counter', text: 'Secrets and fields left out of records, by rule.' },
  forwarded: {
    unit: '{event}',
    kind: 'counter',
    text: 'Events for another instance, by outcome: sent, kept (the Collector never takes it: joined here), received (from another instance), unknown (forwarded, but not signed with a known secret: makes no record).',
  },
  forward_waiting: { unit: '{event}', kind: 'gauge', text: 'Events that wait to be forwarded.' },
  forward_failing: { unit: '1', kind: 'gauge', text: '1 while the Collector at forward.endpoint takes no events.' },
  appended: { unit: 'By', kind: 'counter', text: 'Bytes appended to the write-ahead log.' },
  fsyncs: { unit: '{fsync}', kind: 'counter', text: 'Group commits of the write-ahead log.' },
  compacted: { unit: 'By', kind: 'counter', text: 'Bytes of evidence that were compressed on their way to the disk.' },
  compacted_away: { unit: 'By', kind: 'counter', text: 'Disk that compressing evidence saved.' },
  evicted: {
    unit: 'By',
    kind: 'counter',
    text: 'Disk given back by letting stored segments go, by reason: age, bytes, space.',
  },
  disk_free_bytes: { unit: 'By', kind: 'gauge', text: 'Free bytes of the file system that holds the data folder.' },
  disk_short: { unit: '1', kind: 'gauge', text: '1 while evidence is refused because the disk is nearly full.' },
  settled: { unit: '{trace}', kind: 'counter', text: 'Traces settled, by reason.' },
  evidence: {
    unit: '{item}',
    kind: 'counter',
    text: 'Evidence by signal and use: used, context, excluded, duplicate, expired, quarantined.',
  },
  pressure_points: {
    unit: '{item}',
    kind: 'gauge',
    text: 'Data points kept for records near in time, that none shows yet: what is pending of metrics.',
  },
  pressure_series: { unit: '{series}', kind: 'gauge', text: 'Series of metrics of which points are kept.' },
  pressure_refused: {
    unit: '{item}',
    kind: 'counter',
    text: 'Data points of listed metrics that are not kept, by reason: untrusted, no_place, full, request (too many in one).',
  },
  pressure_shown: { unit: '{record}', kind: 'counter', text: 'Records that show metrics near in time.' },
  place_databases_read: {
    unit: '{file}',
    kind: 'counter',
    text: 'Databases of places read again after they were replaced, by outcome.',
  },
  place_lookups_failed: {
    unit: '{address}',
    kind: 'counter',
    text: 'Addresses that a database could not be asked for.',
  },
  records: { unit: '{record}', kind: 'counter', text: 'Records settled: stored, on the way there, or in quarantine.' },
  written: { unit: '{record}', kind: 'counter', text: 'Records durably written to the store.' },
  revisions: { unit: '{record}', kind: 'counter', text: 'Records written again as a later revision.' },
  outranked: { unit: '{record}', kind: 'counter', text: 'Writes ignored: the store held a higher rank.' },
  quarantined: { unit: '{item}', kind: 'counter', text: 'Items set aside with a reason, by stage.' },
  quarantine_resolved: {
    unit: '{item}',
    kind: 'counter',
    text: 'Quarantined items written or settled again (retried) or given up by a person (dropped), by stage.',
  },
  quarantine_open: { unit: '{item}', kind: 'gauge', text: 'Items in quarantine that nobody has resolved, by stage.' },
  quarantine_bytes: { unit: 'By', kind: 'gauge', text: 'Bytes of unresolved items in quarantine.' },
  store_findings: {
    unit: '{finding}',
    kind: 'gauge',
    text: 'What is wrong with cluster, templates, indices and rights of the store, by kind; the log and doctor say it in words.',
  },
  indices_retired: {
    unit: '{index}',
    kind: 'counter',
    text: 'Indices deleted because all in them is older than the retention.',
  },
  documents_retired: {
    unit: '{document}',
    kind: 'counter',
    text: 'Records and earlier states in the indices that were deleted for their age.',
  },
  rules: { unit: '{rule}', kind: 'gauge', text: 'Rules by state: on, off, failed.' },
  rule_matches: { unit: '{record}', kind: 'counter', text: 'Records that fit a rule, by rule.' },
  rule_alerts: { unit: '{alert}', kind: 'counter', text: 'Alerts raised, by rule.' },
  rule_evicted: {
    unit: '{item}',
    kind: 'counter',
    text: 'Groups, values and matches that a rule had to forget for want of room, by rule.',
  },
  rule_late: {
    unit: '{record}',
    kind: 'counter',
    text: 'Records too late for a rule to know whether it has counted them, by rule.',
  },
  write_retries: { unit: '{batch}', kind: 'counter', text: 'Batches written again after the store failed.' },
  traces_open: { unit: '{trace}', kind: 'gauge', text: 'Traces with evidence that is not settled and stored yet.' },
  traces_stored: { unit: '{trace}', kind: 'gauge', text: 'Stored traces that late evidence can still join.' },
  replayed: {
    unit: '{item}',
    kind: 'gauge',
    text: 'Evidence accepted by an earlier run that this one found not stored yet.',
  },
  evidence_pending: { unit: '{item}', kind: 'gauge', text: 'Evidence that is not settled and stored yet.' },
  unaccounted: {
    unit: '{item}',
    kind: 'gauge',
    text: 'Evidence accepted, or records settled, of which no place is known, by what they are: 0, or something was lost.',
  },
  wal_damaged_files: {
    unit: '{file}',
    kind: 'gauge',
    text: 'Damaged parts that were taken out of the write-ahead log and kept beside it, as of the start.',
  },
  wal_bytes: { unit: 'By', kind: 'gauge', text: 'Bytes of write-ahead log on disk.' },
  wal_unsettled_bytes: {
    unit: 'By',
    kind: 'gauge',
    text: 'Bytes of segments that hold unsettled or unstored evidence.',
  },
  wal_unsettled_bytes_max: {
    unit: 'By',
    kind: 'gauge',
    text: 'The setting wal.unsettledBytesMax: with so many bytes unstored, evidence is refused.',
  },
  refusing: { unit: '1', kind: 'gauge', text: '1 while evidence is refused, by reason: budget, memory, disk.' },
  store_failing: {
    unit: '1',
    kind: 'gauge',
    text: '1 from a write that failed until one works again, and until the store is set up.',
  },
  replaying: { unit: '1', kind: 'gauge', text: '1 while what an earlier run left is read again.' },
  wal_lag_ms: { unit: 'ms', kind: 'gauge', text: 'Age of the oldest evidence that is not stored yet.' },
  horizon_ms: { unit: 'ms', kind: 'gauge', text: 'Age of the oldest evidence that late evidence can still join.' },
  coverage_gaps: { unit: '{gap}', kind: 'gauge', text: 'Gaps in coverage of the last 24 hours, by kind.' },
  alerts: { unit: '{alert}', kind: 'counter', text: 'Alerts raised, by severity; those raised again are not counted.' },
  alerts_unstored: { unit: '{alert}', kind: 'gauge', text: 'Alerts that wait for the store.' },
  alerts_refused: {
    unit: '{alert}',
    kind: 'counter',
    text: 'Alerts that the store does not take; they stand in the log.',
  },
  notices: {
    unit: '{notice}',
    kind: 'counter',
    text: 'Attempts to tell somebody of an alert, by channel and outcome: delivered, failed (tried again), dead (given up).',
  },
  notices_lost: {
    unit: '{notice}',
    kind: 'counter',
    text: 'Notices that were not made, or dead letters that had to go, because notify.noticesMax were there, by channel.',
  },
  notices_waiting: { unit: '{notice}', kind: 'gauge', text: 'Notices that are not delivered yet.' },
  notices_dead: { unit: '{notice}', kind: 'gauge', text: 'Notices that were given up and wait for a person.' },
} as const satisfies Record<string, { unit: string; kind: 'counter' | 'gauge'; text: string }>;

export type MetricName = keyof typeof METRICS;

export type Labels = Readonly<Record<string, string>>;

export interface Sample {
  readonly name: MetricName;
  readonly labels: Labels;
  readonly value: number;
}

/** Running totals, one number for each name and set of labels. Label values come from small fixed sets, never from input. */
export class Counters {
  readonly #samples = new Map<string, { name: MetricName; labels: Labels; value: number }>();
  /** The same by the labels in the order in which somebody gave them. */
  readonly #given = new Map<string, { name: MetricName; labels: Labels; value: number }>();

  add(name: MetricName, value: number, labels: Labels = {}): void {
    this.#sample(name, labels).value += value;
  }

  set(name: MetricName, value: number, labels: Labels = {}): void {
    this.#sample(name, labels).value = value;
  }

  /** The sum over all labels, or the one value when labels are given. */
  total(name: MetricName, labels?: Labels): number {
    if (labels) return this.#sample(name, labels).value;
    let sum = 0;
    for (const sample of this.#samples.values()) if (sample.name === name) sum += sample.value;
    return sum;
  }

  samples(): Sample[] {
    return [...this.#samples.values()];
  }

  #sample(name: MetricName, labels: Labels): { name: MetricName; labels: Labels; value: number } {
    let given: string = name;
    for (const label in labels) given += ` ${label}=${labels[label]}`;
    const known = this.#given.get(given);
    if (known !== undefined) return known;
    const sorted = Object.keys(labels).sort();
    const key = [name, ...sorted.map((label) => `${label}=${labels[label]}`)].join(' ');
    const sample = this.#samples.get(key) ?? { name, labels, value: 0 };
    this.#samples.set(key, sample);
    this.#given.set(given, sample);
    return sample;
  }
}
