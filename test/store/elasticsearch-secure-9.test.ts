import { inject } from 'vitest';
import { describeSecured } from './elasticsearch-secure-suite.ts';

describeSecured('9.5.0', inject('secureElasticsearch')['9.5.0']);
