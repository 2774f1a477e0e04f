/** What can be wrong with the place where records live, apart from its being away. */
export type FindingKind =
  | 'unsupported_server'
  | 'template_missing'
  | 'template_changed'
  | 'template_outdated'
  | 'mapping_outdated'
  | 'read_only_index'
  | 'missing_privilege'
  | 'not_inspected'
  | 'unprotected'
  | 'retention';

export const FINDING_KINDS: readonly FindingKind[] = [
  'unsupported_server',
  'template_missing',
  'template_changed',
  'template_outdated',
  'mapping_outdated',
  'read_only_index',
  'missing_privilege',
  'not_inspected',
  'unprotected',
  'retention',
];

export interface Finding {
  readonly kind: FindingKind;
  /** `bad`: records are not written, not found, or not kept as the settings say. `note`: worth knowing. */
  readonly state: 'bad' | 'note';
  /** One line for a person: what is wrong and what would be right. */
  readonly text: string;
}

/** What a round of retention did. */
export interface Retirement {
  /** Indices that are gone now, with the documents that they held. */
  readonly deleted: readonly { readonly index: string; readonly documents: number }[];
  /** Indices that are old enough by their name and stay, with the reason. */
  readonly kept: readonly { readonly index: string; readonly reason: string }[];
}

/** What a store needs somebody to look after; a store in a file needs nobody. */
export interface StoreCare {
  /** Looks, and changes nothing. Throws AppError `store_unavailable` when nothing answers. */
  inspect(): Promise<readonly Finding[]>;
  /** Deletes what is older than the settings keep; undefined when they keep everything. */
  readonly retire?: (nowMs: number) => Promise<Retirement>;
}
