import { inject } from 'vitest';
import { describeElasticsearch } from './elasticsearch-suite.ts';

describeElasticsearch('8.19.0', inject('elasticsearch')['8.19.0']);
