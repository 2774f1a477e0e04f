// What `npm ci` ends with in a checkout: taking types out of some hundred files and compiling them is half of a first start.
import { keepCompiled } from './compile-cache.mjs';

// An older Node is told so when Spantrail is started with it.
if (process.features.typescript) {
  keepCompiled();
  await Promise.all([import('./server.ts'), import('../app/lifecycle.ts')]);
}
