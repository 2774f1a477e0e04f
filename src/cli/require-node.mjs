// Plain old JavaScript on purpose: it must load on any Node to say which one is needed.
const MINIMUM = [22, 12];
const [major, minor] = process.versions.node.split('.').map(Number);
if (major < MINIMUM[0] || (major === MINIMUM[0] && minor < MINIMUM[1])) {
  process.stderr.write(
    `spantrail needs Node ${MINIMUM.join('.')} or newer; this is ${process.versions.node}. "npm ci" brings one for the npm scripts.\n`,
  );
  process.exit(1);
}
