/** A shop with an audited database. Each path asks it in another of the ways that libraries have. */
const { createServer } = require('node:http');
const { context, propagation } = require('@opentelemetry/api');
const { logs } = require('@opentelemetry/api-logs');
const pg = require('pg');

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 1 });
const ORDER = 'SELECT note FROM orders WHERE id = $1';
/** A name keeps the instrumentation from writing a comment: the text of a prepared statement must not change. */
const prepared = (name, text) => ({ name, text, values: [7] });

async function withClient(work) {
  const client = await pool.connect();
  try {
    return await work(client);
  } finally {
    client.release();
  }
}

/** The traceparent of the request, which is 55 characters long; PostgreSQL takes 63. */
function traceparent() {
  const carrier = {};
  propagation.inject(context.active(), carrier);
  return carrier.traceparent;
}

const paths = {
  '/plain': () => pool.query(ORDER, [7]),
  '/again': () => pool.query(ORDER, [7]),
  '/named': () =>
    withClient(async (client) => {
      await client.query("SELECT set_config('application_name', $1, false)", [traceparent()]);
      await client.query(prepared('named', 'SELECT id, note FROM orders WHERE id = $1'));
      await client.query("SELECT set_config('application_name', 'shop', false)");
    }),
  '/transaction': () =>
    withClient(async (client) => {
      await client.query('BEGIN');
      await client.query('SELECT count(*) FROM orders');
      await client.query(prepared('within', 'UPDATE orders SET note = note WHERE id = $1'));
      await client.query('COMMIT');
    }),
  '/session': () =>
    withClient(async (client) => {
      await client.query('SELECT max(id) FROM orders');
      await client.query(prepared('after', 'DELETE FROM orders WHERE id = $1 + 1000'));
    }),
  /** Says that all went well whatever the database said. */
  '/payroll': async () => {
    await pool.query('SELECT * FROM payroll').catch(() => undefined);
    logs.getLogger('shop').emit({
      eventName: 'shop.payroll.access',
      attributes: { 'event.action': 'read_payroll', 'audit.target.id': 'payroll', 'event.outcome': 'success' },
    });
  },
};

const server = createServer((request, response) => {
  const work = paths[request.url];
  if (work === undefined) return void response.writeHead(404).end();
  work().then(
    () => response.end('done'),
    (error) => response.writeHead(500).end(String(error)),
  );
});
server.listen(0, '127.0.0.1', () => console.log(`listening on ${server.address().port}`));
