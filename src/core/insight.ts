/** Insights and the report: questions that are always the same, and the shape of what they answer. */

/** Every insight, in the order in which they are listed. What each one means stands in docs/insights.md. */
export const INSIGHTS = {
  permissions: 'Permissions that each role used, was refused, and never used',
  targets: 'Targets that each role used, was refused, and never used',
  sensitive: 'Who reached sensitive targets',
  checks: 'Authorisation checks beside database latency, and whether they go together',
  statements: 'The slowest statements, and the accesses behind them',
  pressure: 'Failures beside resource pressure',
  slowest: 'The slowest targets, and who waits for them',
} as const;

export type InsightName = keyof typeof INSIGHTS;

/**
 * How a column is written: `duration` nanoseconds, `share` 0 to 1, `time` RFC 3339, `number` any number. A value that is not
 * known is null.
 */
export type ColumnType = 'text' | 'count' | 'duration' | 'share' | 'time' | 'number';

export interface Column {
  /** Name of the value in each row. */
  readonly name: string;
  readonly title: string;
  readonly type: ColumnType;
}

export type Cell = string | number | null;

export interface Table {
  readonly title: string;
  readonly columns: readonly Column[];
  readonly rows: readonly Readonly<Record<string, Cell>>[];
  /** What to say when there are no rows. */
  readonly empty: string;
  /** More rows fit than are here. */
  readonly more: boolean;
}

export interface Insight {
  readonly name: InsightName;
  readonly title: string;
  /** RFC 3339; `to` is exclusive. */
  readonly from: string;
  readonly to: string;
  /** What the numbers say, in sentences, the most important one first. */
  readonly findings: readonly string[];
  readonly tables: readonly Table[];
}

export interface ReportSection {
  readonly title: string;
  /** What it answers to: `NIST 800-53 AU-6`, `PCI DSS 10.4.1` … */
  readonly for: readonly string[];
  readonly findings: readonly string[];
  readonly tables: readonly Table[];
}

/** What a reviewer looks at for one stretch of time. The same stored data give the same report. */
export interface Report {
  readonly from: string;
  readonly to: string;
  readonly namespace?: string;
  readonly sections: readonly ReportSection[];
}
