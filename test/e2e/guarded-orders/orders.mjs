/** Orders that are shown to whom a policy engine, or a table of roles, grants it. */
import { createServer } from 'node:http';
import pg from 'pg';

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 1 });

async function policyGrants(user, roles, order) {
  const answer = await fetch(`${process.env.POLICY_URL}/v1/data/orders/allow`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      input: { user: { id: user, roles }, action: 'orders:read', resource: { type: 'order', id: order } },
    }),
  });
  const { result } = await answer.json();
  return result === true;
}

async function tableGrants(user) {
  const { rows } = await pool.query('SELECT role FROM user_roles WHERE user_id = $1', [user]);
  return rows.some(({ role }) => role === 'nurse');
}

const server = createServer(async (request, response) => {
  const [, by, order] = /^\/(policy|roles)\/(\d+)$/.exec(request.url) ?? [];
  const user = request.headers['x-forwarded-user'];
  const roles = (request.headers['x-user-roles'] ?? '').split(',');
  const isGranted = by === 'policy' ? await policyGrants(user, roles, order) : await tableGrants(user);
  if (!isGranted) return void response.writeHead(403).end();
  const { rows } = await pool.query('SELECT id, note FROM orders WHERE id = $1', [order]);
  response.end(JSON.stringify(rows));
});
server.listen(0, '127.0.0.1', () => console.log(`listening on ${server.address().port}`));
