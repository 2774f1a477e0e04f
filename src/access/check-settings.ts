import { anyGlob } from './glob.ts';
import type { RuleMatch } from './settings.ts';

/** Says that evidence is an authorisation check. Texts may hold `${key}`; one that asks for what is not there is left out. */
export interface CheckRule extends RuleMatch {
  readonly permission?: string;
  readonly target?: string;
  /** What it comes to is read as yes or no: true, allow, 200 …; false, deny, 403 … */
  readonly granted?: string;
  readonly rule?: string;
  readonly engine?: string;
}

/** A table of roles or rights: statements that read it are checks of the request they belong to. */
export interface RoleTable {
  readonly table: string | readonly string[];
  readonly permission?: string;
  readonly target?: string;
}

/** A host at which a policy engine answers whose paths could be anybody's. */
export interface EngineHost {
  readonly host: string | readonly string[];
  readonly engine: 'opa' | 'spicedb';
}

/** Names of headers, baggage entries and attributes that tell what an access is for. */
export interface PurposeSettings {
  readonly purposes: readonly string[];
  readonly tickets: readonly string[];
  readonly breakGlass: readonly string[];
}

export interface CheckSettings {
  readonly rules: readonly CheckRule[];
  readonly roleTables: readonly RoleTable[];
  readonly hosts: readonly EngineHost[];
}

export const NO_CHECK_SETTINGS: CheckSettings = { rules: [], roleTables: [], hosts: [] };

/** A role table with its patterns ready for use; names of tables know no letter case. */
export interface CompiledRoleTable extends RoleTable {
  readonly fits: (table: string) => boolean;
}

export interface CompiledHost {
  readonly engine: EngineHost['engine'];
  readonly fits: (address: string) => boolean;
}

function listOf(patterns: string | readonly string[]): readonly string[] {
  return typeof patterns === 'string' ? [patterns] : patterns;
}

export function compileRoleTables(tables: readonly RoleTable[]): CompiledRoleTable[] {
  return tables.map((settings) => {
    const patterns = listOf(settings.table).map((pattern) => pattern.toLowerCase());
    return { ...settings, fits: anyGlob(patterns) };
  });
}

export function compileHosts(hosts: readonly EngineHost[]): CompiledHost[] {
  return hosts.map(({ host, engine }) => ({ engine, fits: anyGlob(listOf(host)) }));
}
