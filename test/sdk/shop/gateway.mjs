// The door of the shop, on Express: it checks who is logged in and asks the orders service.
import express from 'express';
import { expressUser } from 'spantrail/sdk';

const SESSIONS = { 'session-1': { id: 'u-17', name: 'alice', roles: ['support'] } };
const app = express();
app.use(expressUser());
app.use((request, response, next) => {
  request.user = SESSIONS[request.get('x-shop-session')];
  if (request.user === undefined) response.status(401).json({ error: 'log in first' });
  else next();
});
app.get('/orders/:id', async (request, response) => {
  const answer = await fetch(`${process.env.ORDERS_URL}/orders/${request.params.id}`, {
    method: 'GET',
    headers: { 'x-shop-user': request.user.id, 'x-shop-roles': request.user.roles.join(',') },
  });
  response.status(answer.status).json(await answer.json());
});
const server = app.listen(0, '127.0.0.1', () => process.stdout.write(`listening on ${server.address().port}\n`));
