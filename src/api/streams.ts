import { Readable } from 'node:stream';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { AppError } from '../core/errors.ts';
import { FIELDS } from '../core/fields.ts';
import type { AuditRecord } from '../core/record.ts';
import { evaluate } from '../query/evaluate.ts';
import type { Selection } from '../store/port.ts';
import type { AccessControl } from './access.ts';
import { exportQuery, tailQuery } from './contract.ts';
import { csvHeader, csvRow } from './csv.ts';
import { checkParameters, parseQueryText, toSelection } from './selection.ts';
import type { ApiDependencies } from './server.ts';

/** Followers at once: each costs a query evaluation for every record. */
const FOLLOWERS_MAX = 100;
/** Bytes that may wait for a slow follower before records are left out for it, which it is told. */
const FOLLOWER_BUFFER_BYTES_MAX = 4 * 1024 * 1024;
const KEEP_ALIVE_MS = 15_000;

const CSV_FIELDS = FIELDS.filter((field) => field.hot);

export function addStreamRoutes(server: FastifyInstance, needs: ApiDependencies, control: AccessControl): void {
  const { store, clock } = needs;
  let followers = 0;

  server.get('/api/v1/export', async (request, reply) => {
    const parameters = checkParameters(exportQuery, request.query);
    const selection = toSelection(parameters, clock.nowMs());
    const csv = parameters.format === 'csv';
    return reply
      .type(csv ? 'text/csv; charset=utf-8; header=present' : 'application/x-ndjson')
      .header('content-disposition', `attachment; filename="spantrail-export.${parameters.format}"`)
      .send(Readable.from(csv ? csvLines(selection, request) : jsonLines(selection, request), { objectMode: false }));
  });

  server.get('/api/v1/tail', async (request, reply) => {
    const parameters = checkParameters(tailQuery, request.query);
    const query = parseQueryText(parameters.q, clock.nowMs());
    if (followers >= FOLLOWERS_MAX) throw new AppError('unavailable', `at most ${FOLLOWERS_MAX} can follow at once`);
    const fits = (record: AuditRecord) =>
      (parameters.inner || record.audit.entry) &&
      record.audit.superseded_by === undefined &&
      (parameters.namespace === undefined || record.data_stream.namespace === parameters.namespace) &&
      evaluate(query, record);
    followers += 1;
    const stream = new Readable({ read() {}, highWaterMark: FOLLOWER_BUFFER_BYTES_MAX });
    let missed = 0;
    const unsubscribe = needs.subscribe((records) => {
      for (const record of records.filter(fits)) {
        if (stream.readableLength >= FOLLOWER_BUFFER_BYTES_MAX) missed += 1;
        else {
          stream.push(`event: record\ndata: ${JSON.stringify(record)}\n\n`);
          control.noteRows(request, 1);
        }
      }
      if (missed > 0 && stream.readableLength < FOLLOWER_BUFFER_BYTES_MAX) {
        stream.push(`event: missed\ndata: ${missed}\n\n`);
        missed = 0;
      }
    });
    const keepAlive = setInterval(() => {
      // Whoever's token has ended since has seen enough.
      stream.push(control.mayGoOn(request) ? ': keep-alive\n\n' : null);
    }, KEEP_ALIVE_MS);
    reply.raw.once('close', () => {
      followers -= 1;
      clearInterval(keepAlive);
      unsubscribe();
      stream.destroy();
    });
    stream.push(': following\n\n');
    return reply.type('text/event-stream').header('x-accel-buffering', 'no').send(stream);
  });

  async function* jsonLines(selection: Selection, request: FastifyRequest): AsyncIterable<string> {
    for await (const record of counted(selection, request)) yield `${JSON.stringify(record)}\n`;
  }

  async function* csvLines(selection: Selection, request: FastifyRequest): AsyncIterable<string> {
    yield csvHeader(CSV_FIELDS);
    for await (const record of counted(selection, request)) yield csvRow(record, CSV_FIELDS);
  }

  async function* counted(selection: Selection, request: FastifyRequest): AsyncIterable<AuditRecord> {
    for await (const record of store.iterate(selection)) {
      control.noteRows(request, 1);
      yield record;
    }
  }
}
