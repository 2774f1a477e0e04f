#!/usr/bin/env node
import './require-node.mjs';

// Node 22 strips types only when told so, and warns about it; 24 does it by itself.
process.removeAllListeners('warning');
await import('./main.ts');
