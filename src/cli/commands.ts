import type { Command } from 'commander';
import type { Terminal } from './main.ts';

/** Commands that one module has. */
export interface CommandModule {
  /** As they are typed. */
  readonly names: readonly string[];
  readonly load: () => Promise<(program: Command, terminal: Terminal) => void>;
}

/**
 * All commands, in the order in which the help lists them. A module is loaded when one of its commands is typed, or all when it is
 * not known which is meant: a start, or a question, waits for nothing that it does not need.
 */
export const COMMANDS: readonly CommandModule[] = [
  {
    names: ['serve', 'setup', 'doctor', 'demo'],
    load: async () => (await import('./server.ts')).addServerCommands,
  },
  {
    names: ['search', 'tail', 'export', 'show', 'trace'],
    load: async () => (await import('./query.ts')).addQueryCommands,
  },
  { names: ['coverage'], load: async () => (await import('./coverage.ts')).addCoverageCommand },
  { names: ['insights'], load: async () => (await import('./insights.ts')).addInsightsCommand },
  { names: ['report'], load: async () => (await import('./report.ts')).addReportCommand },
  { names: ['alerts'], load: async () => (await import('./alerts.ts')).addAlertCommands },
  { names: ['notify'], load: async () => (await import('./notify.ts')).addNotifyCommands },
  { names: ['rules'], load: async () => (await import('./rules.ts')).addRuleCommands },
  { names: ['quarantine'], load: async () => (await import('./quarantine.ts')).addQuarantineCommands },
  { names: ['reconcile'], load: async () => (await import('./reconcile.ts')).addReconcileCommand },
  { names: ['config'], load: async () => (await import('./config.ts')).addConfigCommands },
  { names: ['token'], load: async () => (await import('./token.ts')).addTokenCommands },
  { names: ['wal'], load: async () => (await import('./wal.ts')).addWalCommands },
];

/** Gives the program the commands that may be meant by what was typed after its name. */
export async function addCommands(program: Command, terminal: Terminal, words: readonly string[]): Promise<void> {
  const typed = COMMANDS.filter(({ names }) => names.includes(words[0] ?? ''));
  for (const { load } of typed.length > 0 ? typed : COMMANDS) (await load())(program, terminal);
}
