import { inject } from 'vitest';
import { describeElasticsearch } from './elasticsearch-suite.ts';

describeElasticsearch('9.5.0', inject('elasticsearch')['9.5.0']);
