/**
 * What a panel is, before it is an object of Kibana or of Grafana. Both are written from the same catalogue, so that both
 * show the same numbers.
 */

/** One number out of the records of a bucket. `where` is KQL and narrows this number alone. */
export type Measure =
  | { readonly is: 'count'; readonly label: string; readonly where?: string }
  | {
      readonly is: 'average' | 'max' | 'sum' | 'unique_count';
      readonly field: string;
      readonly label: string;
      readonly where?: string;
    }
  | {
      readonly is: 'percentile';
      readonly field: string;
      readonly percentile: number;
      readonly label: string;
      readonly where?: string;
    };

/** The most frequent (or highest by the first measure) values of a field. */
export interface Top {
  readonly field: string;
  readonly label: string;
  readonly size: number;
}

interface Common {
  readonly title: string;
  /** KQL, beside the dashboard's own. */
  readonly query?: string;
  /** Width and height in a grid of 48 columns. */
  readonly width: number;
  readonly height: number;
}

export interface NumberPanel extends Common {
  readonly kind: 'number';
  readonly measure: Measure;
}

export interface TimelinePanel extends Common {
  readonly kind: 'timeline';
  readonly shape: 'bar_stacked' | 'line';
  readonly measures: readonly Measure[];
  readonly split?: Top;
  /** This measure has an axis of its own on the right. */
  readonly right?: number;
}

export interface BarsPanel extends Common {
  readonly kind: 'bars';
  readonly by: Top;
  readonly measure: Measure;
  /** Dashboards that a click on a bar leads to, with the value as filter. */
  readonly leadsTo?: readonly DashboardId[];
}

export interface TablePanel extends Common {
  readonly kind: 'table';
  readonly by: readonly [Top, ...Top[]];
  readonly measures: readonly [Measure, ...Measure[]];
  readonly leadsTo?: readonly DashboardId[];
}

export interface SearchPanel extends Common {
  readonly kind: 'search';
  readonly search: SearchId;
}

export type Panel = NumberPanel | TimelinePanel | BarsPanel | TablePanel | SearchPanel;

export type DashboardId = 'overview' | 'refusals' | 'actor' | 'target' | 'errors' | 'pressure' | 'checks' | 'pipeline';

export type SearchId =
  | 'entries'
  | 'refusals'
  | 'actor'
  | 'target'
  | 'errors'
  | 'pressure'
  | 'checks'
  | 'doubtful'
  | 'out-of-band'
  | 'revisions';

export interface Dashboard {
  readonly id: DashboardId;
  readonly title: string;
  readonly text: string;
  /** KQL that holds for every panel. */
  readonly query: string;
  /** Fields of which a value can be picked above the panels. */
  readonly controls: readonly { readonly field: string; readonly label: string }[];
  readonly panels: readonly Panel[];
}

export interface Search {
  readonly id: SearchId;
  readonly title: string;
  readonly text: string;
  readonly view: 'audit' | 'revisions';
  readonly query: string;
  readonly columns: readonly string[];
}

/** KQL of a panel together with its dashboard's. */
export function both(one: string, other: string | undefined): string {
  return other === undefined ? one : `${one} and (${other})`;
}
