import { type ParseArgsConfig, parseArgs } from 'node:util';

type Options = NonNullable<ParseArgsConfig['options']>;
type Read<T extends Options> = ReturnType<typeof parseArgs<{ options: T & { help: { type: 'boolean' } } }>>['values'];

/** What a command of the project was given. With `--help`, or an option that it does not have, it says its help and ends. */
export function readOptions<const T extends Options>(help: string, options: T): Read<T> {
  try {
    const { values } = parseArgs({ options: { ...options, help: { type: 'boolean' } } });
    if (!('help' in values && values.help)) return values as Read<T>;
    process.stdout.write(help);
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : error}\n${help}`);
    process.exit(2);
  }
  process.exit(0);
}
