/**
 * A mapping as data: which records of another system it is about, and how their fields become those of an access event. Presets
 * are mappings that come along; users add theirs in the settings (src/config/mappings.ts has the same shape).
 */
export interface Mapping {
  /** Stands in `audit.evidence[].source`, unless it is a variant of a preset. */
  readonly name: string;
  /** The preset that it is a variant of: asked for under that name, and named so in the evidence. */
  readonly preset?: string;
  /** Every key must fit, as of rules: a path of the record, else an attribute of its resource, or `log.event_name`, `scope.name`. */
  readonly when: Readonly<Record<string, string | readonly string[]>>;
  /** How text becomes fields; JSON when left out. */
  readonly parse?: Parse;
  /** Texts that stand for no value, such as `-`. */
  readonly nothing?: readonly string[];
  /** Regular expressions whose named groups become further fields of the record; of one list the first that fits counts. */
  readonly extract?: readonly Extract[];
  /** What the event says, by the record's own names. */
  readonly fields: Fields;
  /** Said besides when the record belongs to no trace. */
  readonly untraced?: Fields;
}

export type Fields = Readonly<Record<string, Source>>;

export type Parse =
  | { readonly as: 'json' }
  | { readonly as: 'csv'; readonly columns: readonly string[] }
  | { readonly as: 'regex'; readonly patterns: readonly string[] }
  /** Server logs of PostgreSQL as text, csvlog or jsonlog; `prefixes` are values of `log_line_prefix`. */
  | { readonly as: 'postgres'; readonly prefixes: readonly string[] };

export interface Extract {
  readonly from: Source;
  readonly patterns: readonly string[];
}

/**
 * Where a value comes from. Text is a template: `${path}` stands for the value at that path, and without all its values there is
 * none; a template that is one path alone keeps lists and numbers as they are. Of a list the first that has a value counts.
 */
export type Source = string | readonly Source[] | SourceRule;

export interface SourceRule {
  readonly from: Source;
  /** Only where the record fits these, too. */
  readonly when?: Mapping['when'];
  /** Pattern with `*` → value; the first that fits. What fits none has no value. Of a list every item is looked at. */
  readonly map?: Readonly<Record<string, string | readonly string[]>>;
  /** Joins the items of a list. */
  readonly join?: string;
  /** The unit that a number has; it becomes nanoseconds. */
  readonly unit?: 's' | 'ms' | 'us' | 'ns';
  readonly decode?: 'base64';
}
