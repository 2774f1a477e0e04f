#!/usr/bin/env node
import './require-node.mjs';
import { keepCompiled } from './compile-cache.mjs';

keepCompiled();
try {
  await import('./main.ts');
} catch (error) {
  if (error.code !== 'ERR_MODULE_NOT_FOUND') throw error;
  process.stderr.write(
    `spantrail: ${error.message.split('\n')[0].split(' imported from ')[0]}; "npm ci" installs what it needs\n`,
  );
  process.exit(1);
}
