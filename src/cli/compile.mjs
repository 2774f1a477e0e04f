// What `npm ci` ends with in a checkout: taking types out of some hundred files and compiling them is half of a first start.
import { keepCompiled } from './compile-cache.mjs';

// An older Node is told so when Spantrail is started with it, and so is who left out what a start needs: that is no reason not to install.
if (process.features.typescript) {
  keepCompiled();
  await Promise.allSettled([import('./server.ts'), import('../app/lifecycle.ts')]);
}
