// The orders service. Who asks is in a header that the HTTP instrumentation captures; it knows nothing of Spantrail.
import { fastify } from 'fastify';
import pg from 'pg';

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 2 });
const app = fastify();
app.get('/orders/:id', async ({ params }) => {
  const { rows } = await pool.query('SELECT id, item FROM orders WHERE id = $1', [params.id]);
  return rows[0];
});
process.stdout.write(`listening on ${new URL(await app.listen({ host: '127.0.0.1', port: 0 })).port}\n`);
