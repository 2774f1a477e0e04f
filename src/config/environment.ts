/** The process's environment variables, for the command line to pass on. */
export function readEnvironment(): Readonly<Record<string, string | undefined>> {
  return process.env;
}
