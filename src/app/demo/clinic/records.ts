import { fastify } from 'fastify';
import pg from 'pg';

/**
 * The records service. It believes the gateway about who asks (x-forwarded-user, x-user-roles) and lets the database
 * decide: each request runs in the role of the person, so that a refusal is Postgres' own.
 */
const pool = new pg.Pool({ connectionString: process.env['DATABASE_URL'], max: 4 });
const ROLES: ReadonlySet<string> = new Set(['nurse', 'doctor', 'clerk', 'export', 'board']);
/** SQLSTATE insufficient_privilege. */
const REFUSED = '42501';

async function query(headers: Record<string, unknown>, text: string, values: readonly unknown[] = []) {
  const role = String(headers['x-user-roles'] ?? '');
  if (!ROLES.has(role)) throw Object.assign(new Error(`no such role: ${role}`), { statusCode: 403 });
  const client = await pool.connect();
  try {
    await client.query('BEGIN');
    await client.query(`SET LOCAL ROLE ${role}`);
    const { rows } = await client.query<Record<string, unknown>>(text, [...values]);
    await client.query('COMMIT');
    return rows;
  } catch (error) {
    await client.query('ROLLBACK');
    throw error;
  } finally {
    client.release();
  }
}

const app = fastify();
type Row = { Params: { id: string } };

app.get<Row>('/patients/:id', ({ headers, params }) =>
  query(headers, 'SELECT id, name, ward FROM patients WHERE id = $1', [params.id]),
);
app.get<Row>('/patients/:id/notes', ({ headers, params }) =>
  query(headers, 'SELECT text FROM notes WHERE patient_id = $1', [params.id]),
);
// The sleep stands for an index that somebody forgot: it takes as long on every machine.
app.get<Row>('/patients/:id/history', ({ headers, params }) =>
  query(headers, 'SELECT day, pg_sleep(1.2) FROM visits WHERE patient_id = $1', [params.id]),
);
app.put<Row & { Body: { ward: number } }>('/patients/:id/ward', ({ headers, params, body }) =>
  query(headers, 'UPDATE patients SET ward = $2 WHERE id = $1', [params.id, body.ward]),
);
app.get('/invoices', ({ headers }) => query(headers, 'SELECT patient_id, cents FROM invoices'));
app.get('/occupancy', ({ headers }) => query(headers, 'SELECT ward, count(*) FROM patients GROUP BY ward'));
app.get<Row>('/patients/:id/labs', async ({ headers, params }) => {
  const rows = await query(headers, 'SELECT id FROM patients WHERE id = $1', [params.id]);
  const results = await fetch(`${process.env['LABORATORY_URL']}/results/${params.id}`);
  return { rows, results: await results.json() };
});
app.get('/healthz', () => 'ok');

app.setErrorHandler((error: Error & { code?: string; statusCode?: number }, _request, reply) => {
  const isNetwork = error instanceof TypeError && error.cause !== undefined;
  const status = error.code === REFUSED ? 403 : isNetwork ? 502 : (error.statusCode ?? 500);
  return reply.code(status).send({ error: error.message });
});

const url = await app.listen({ host: '127.0.0.1', port: 0 });
process.send?.({ url });
