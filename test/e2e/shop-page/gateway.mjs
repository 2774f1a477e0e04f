// The door of the shop: it serves the page, knows who is logged in by a cookie, and tells the orders service with x-forwarded-user.
import express from 'express';
import { expressUser } from '../../../src/sdk/sdk.ts';

const SESSIONS = { 'c-1': { id: 'alice', roles: ['support'] } };
const app = express();
app.use((request, _response, next) => {
  const session = /\bshop=([^;]+)/.exec(request.get('cookie') ?? '')?.[1];
  request.user = SESSIONS[session];
  next();
});
app.use(expressUser());
app.get('/login', (_request, response) => response.cookie('shop', 'c-1', { httpOnly: true }).redirect('/'));
app.get('/api/orders/:id', async (request, response) => {
  if (request.user === undefined) return response.status(401).json({ error: 'log in first' });
  const headers = { 'x-forwarded-user': request.user.id };
  const answer = await fetch(`${process.env.ORDERS_URL}/orders/${request.params.id}`, { headers });
  response.status(answer.status).json(await answer.json());
});
app.use(express.static(process.env.PAGE_FOLDER));
const server = app.listen(0, '127.0.0.1', () => process.stdout.write(`listening on ${server.address().port}\n`));
