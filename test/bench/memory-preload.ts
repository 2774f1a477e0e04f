/**
 * Loaded into a receiver before it starts (`node --import`): answers SIGUSR2 with one line on stderr that tells what its memory is
 * made of, in bytes.
 */
process.on('SIGUSR2', () => {
  process.stderr.write(`memory ${JSON.stringify(process.memoryUsage())}\n`);
});
