import { PassThrough } from 'node:stream';
import { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import { addCommands, COMMANDS } from '../../src/cli/commands.ts';
import type { Terminal } from '../../src/cli/main.ts';

const terminal: Terminal = {
  write: () => undefined,
  warn: () => undefined,
  output: new PassThrough(),
  colours: false,
  columns: undefined,
  environment: {},
  version: '0',
};

const namesAfter = async (...words: string[]) => {
  const program = new Command();
  await addCommands(program, terminal, words);
  return program.commands.map((command) => command.name());
};

describe('commands', () => {
  it.each(COMMANDS.map((module) => [module.names.join(', '), module] as const))(
    '%s are those of their module',
    async (_, { names, load }) => {
      const program = new Command();
      (await load())(program, terminal);
      expect(program.commands.flatMap((command) => [command.name(), ...command.aliases()]).sort()).toEqual(
        [...names].sort(),
      );
    },
  );

  it('are loaded as far as what was typed needs them, and all where that does not say', async () => {
    expect(await namesAfter('reconcile', '--json')).toEqual(['reconcile']);
    expect(await namesAfter('serve')).toContain('doctor');
    const all = COMMANDS.flatMap(({ names }) => names).sort();
    for (const words of [[], ['--help'], ['help', 'serve'], ['serf']]) {
      expect((await namesAfter(...words)).sort()).toEqual(all);
    }
  });
});
