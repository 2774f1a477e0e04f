import { inject } from 'vitest';
import { describeSecured } from './elasticsearch-secure-suite.ts';

describeSecured('8.19.0', inject('secureElasticsearch')['8.19.0']);
