/** `npm run generate`: writes the files that are imported into Kibana and Grafana from the one catalogue of panels. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { grafanaAudit, grafanaHealth } from './grafana.ts';
import { kibanaFile } from './kibana.ts';

const deploy = join(import.meta.dirname, '..');
writeFileSync(join(deploy, 'kibana/spantrail.ndjson'), kibanaFile());
writeFileSync(join(deploy, 'grafana/audit.json'), grafanaAudit());
writeFileSync(join(deploy, 'grafana/health.json'), grafanaHealth());
