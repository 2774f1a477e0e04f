import type { Cell } from '../core/insight.ts';
import { compareText } from '../query/text.ts';
import type { AggregationRow, Selection, Store } from '../store/port.ts';
import {
  type Answer,
  aggregateTargets,
  column,
  countOf,
  exists,
  GROUPS_MAX,
  type Granted,
  NO_ROLE,
  numbered,
  only,
  type Question,
  REFUSED,
  table,
  textOf,
  timeText,
} from './question.ts';

/** What one role did with one thing: a permission, or an action on a target. */
interface Use {
  readonly role: string;
  readonly thing: string;
  accesses: number;
  refused: number;
  lastMs?: number;
  beforeMs?: number;
  isGranted: boolean;
}

/**
 * - `unused`: known to be the role's, and not used in the range
 * - `refused`: every access that needed it was refused
 * - `used`: an access that needed it was not refused
 */
const STATES = ['unused', 'refused', 'used'] as const;

type Count = (store: Store, selection: Selection) => Promise<readonly AggregationRow[]>;

interface Kind {
  readonly one: string;
  readonly many: string;
  readonly title: string;
  readonly count: Count;
  granted(of: Granted): readonly string[];
}

const MEASURES = { withMissing: true, counts: { refused: REFUSED }, extent: true, limit: GROUPS_MAX } as const;

/** Checks stand in the record of the access that asked and of those above it: entries have them all, once. */
const PERMISSIONS: Kind = {
  one: 'permission',
  many: 'permissions',
  title: 'Permission',
  granted: ({ permissions }) => permissions,
  count: (store, selection) => {
    const field = 'audit.checks.permission';
    const entries = { ...only(selection, exists(field)), inner: false };
    return store.aggregate(entries, { ...MEASURES, groupBy: ['user.roles', field] });
  },
};

const TARGETS: Kind = {
  one: 'target',
  many: 'targets',
  title: 'Action and target',
  granted: ({ targets }) => targets,
  count: async (store, selection) => {
    const rows = await aggregateTargets(store, selection, { ...MEASURES, groupBy: ['user.roles', 'event.action'] });
    return rows.map(({ group: [role = null, action, target], ...row }) => ({
      ...row,
      group: [role, actionOn(String(action), String(target))],
    }));
  },
};

/** `records GET /patients/:id` says its action itself. */
function actionOn(action: string, target: string): string {
  return target.split(' ').includes(action) ? target : `${action} ${target}`;
}

export function permissions(store: Store, question: Question): Promise<Answer> {
  return usesOf(PERMISSIONS, store, question);
}

export function targets(store: Store, question: Question): Promise<Answer> {
  return usesOf(TARGETS, store, question);
}

async function usesOf(kind: Kind, store: Store, question: Question): Promise<Answer> {
  const { selection, knownFromNs, granted, limit } = question;
  const before = { ...selection, fromNs: knownFromNs, toNs: selection.fromNs };
  const [now, earlier] = await Promise.all([kind.count(store, selection), kind.count(store, before)]);
  const uses = collect(kind, now, earlier, granted);
  const rows = uses.map(toRow).sort(compareRows);
  const columns = [
    column('role', 'Role'),
    column('thing', kind.title),
    column('state', 'State'),
    column('accesses', 'Accesses', 'count'),
    column('refused', 'Refused', 'count'),
    column('last', 'Last', 'time'),
    column('known', 'Known from'),
  ];
  const empty =
    kind === PERMISSIONS
      ? 'no access of that time asked for a permission; docs/why.md says what counts as a check'
      : 'no access in that time';
  return {
    findings: findingsOf(kind, uses, now.length === GROUPS_MAX || earlier.length === GROUPS_MAX),
    tables: [table(`${kind.title} by role`, columns, rows, { empty, limit }), otherTable(kind, uses, limit)],
  };
}

/** Everything that is known to be a role's: used or asked for in the range, used before, or granted by the settings. */
function collect(
  kind: Kind,
  now: readonly AggregationRow[],
  earlier: readonly AggregationRow[],
  granted: readonly Granted[],
): Use[] {
  const uses = new Map<string, Use>();
  const useOf = (role: string, thing: string): Use => {
    const key = JSON.stringify([role, thing]);
    const use = uses.get(key) ?? { role, thing, accesses: 0, refused: 0, isGranted: false };
    uses.set(key, use);
    return use;
  };
  for (const row of now) {
    const use = useOf(textOf(row.group[0], NO_ROLE), String(row.group[1]));
    use.accesses += row.count;
    use.refused += countOf(row, 'refused');
    use.lastMs = Math.max(use.lastMs ?? 0, row.lastMs ?? 0);
  }
  for (const row of earlier) {
    // What was only ever refused is nothing that the role had.
    if (row.count === countOf(row, 'refused')) continue;
    const use = useOf(textOf(row.group[0], NO_ROLE), String(row.group[1]));
    use.beforeMs = Math.max(use.beforeMs ?? 0, row.lastMs ?? 0);
  }
  for (const one of granted) for (const thing of kind.granted(one)) useOf(one.role, thing).isGranted = true;
  return [...uses.values()];
}

function stateOf({ accesses, refused }: Use): (typeof STATES)[number] {
  if (accesses === 0) return 'unused';
  return accesses === refused ? 'refused' : 'used';
}

function toRow(use: Use): Record<string, Cell> {
  const { role, thing, accesses, refused, lastMs, beforeMs, isGranted } = use;
  const known = [
    ...(accesses > 0 ? ['this time'] : []),
    ...(beforeMs === undefined ? [] : ['earlier use']),
    ...(isGranted ? ['settings'] : []),
  ];
  const last = timeText(lastMs ?? beforeMs);
  return { role, thing, state: stateOf(use), accesses, refused, last, known: known.join(', ') };
}

/** By role; what could be taken away first, then what could be granted, then what is used, most often first. */
function compareRows(a: Record<string, Cell>, b: Record<string, Cell>): number {
  const order = (row: Record<string, Cell>) => STATES.indexOf(row['state'] as (typeof STATES)[number]);
  return (
    compareText(String(a['role']), String(b['role'])) ||
    order(a) - order(b) ||
    Number(b['accesses']) - Number(a['accesses']) ||
    compareText(String(a['thing']), String(b['thing']))
  );
}

/** What is known of other roles, and no access of this one ever needed. */
function otherTable(kind: Kind, uses: readonly Use[], limit: number) {
  const SHOWN = 10;
  const all = new Set(uses.filter((use) => stateOf(use) === 'used').map(({ thing }) => thing));
  const roles = [...new Set(uses.map(({ role }) => role))].sort(compareText);
  const rows = roles.flatMap((role) => {
    const own = new Set(uses.filter((use) => use.role === role).map(({ thing }) => thing));
    const others = [...all].filter((thing) => !own.has(thing)).sort(compareText);
    if (others.length === 0) return [];
    const rest = others.length > SHOWN ? ` and ${others.length - SHOWN} more` : '';
    return [{ role, count: others.length, things: `${others.slice(0, SHOWN).join(', ')}${rest}` }];
  });
  const columns = [column('role', 'Role'), column('count', 'Never asked for', 'count'), column('things', kind.title)];
  const empty = `every role used all ${kind.many} that are known`;
  return table(`${capital(kind.many)} that only other roles used`, columns, rows, { empty, limit });
}

function findingsOf(kind: Kind, uses: readonly Use[], isCut: boolean): string[] {
  const findings: string[] = [];
  const roles = [...new Set(uses.map(({ role }) => role))].sort(compareText);
  for (const role of roles) {
    const own = uses.filter((use) => use.role === role);
    const [unused = 0, refused = 0, used = 0] = STATES.map(
      (state) => own.filter((use) => stateOf(use) === state).length,
    );
    const parts = [
      `used ${numbered(used, kind.one, kind.many)}`,
      ...(unused > 0 ? [`left ${unused} unused`] : []),
      ...(refused > 0 ? [`was always refused ${refused}`] : []),
    ];
    findings.push(`${role} ${parts.join(', ')}`);
  }
  if (isCut)
    findings.push(
      `only the ${GROUPS_MAX} most frequent pairs of role and ${kind.one} were looked at: narrow the query`,
    );
  return findings;
}

function capital(text: string): string {
  return `${text.slice(0, 1).toUpperCase()}${text.slice(1)}`;
}
