// Plain old JavaScript on purpose: it must load on any Node to say which one is needed. Spantrail runs as TypeScript, whose types
// Node takes out by itself since 22.18 and 23.6; a flag can switch that off.
if (!process.features.typescript) {
  process.stderr.write(
    `spantrail needs Node 22.18 or newer (of 23, 23.6), which runs TypeScript; this is ${process.versions.node}. "npm ci" brings one for the npm scripts.\n`,
  );
  process.exit(1);
}
