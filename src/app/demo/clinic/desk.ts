import { on } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { PEOPLE, type Person } from './people.ts';

/** The people of the clinic at their screens: one day, the same every time, in half a minute. */
const STEPS = 38;
const STEP_MS = 560;
const PATIENTS = 60;
const INTRUDER = '203.0.113.66';
/** Far from the office. */
const ABROAD = '198.51.100.23';
/** As many at once as a script would. */
const READS_AT_ONCE = 4;
/** More than one interval's worth for a baseline, also when they fall into two. */
const REPORTS = 48;

let state = 20261122;
/** 0 up to 1, from a fixed seed (the generator of Numerical Recipes): every demo has the same day. */
function random(): number {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
  return state / 2 ** 32;
}
const oneOf = <T>(choices: readonly [T, ...T[]]): T => choices[Math.floor(random() * choices.length)] ?? choices[0];

const sessions = new Map<string, string>();

async function login(name: string, password: string, address: string): Promise<void> {
  const response = await fetch(`${gatewayUrl}/login`, {
    method: 'POST',
    headers: {
      authorization: `Basic ${Buffer.from(`${name}:${password}`).toString('base64')}`,
      'x-forwarded-for': address,
    },
  });
  const { session } = (await response.json()) as { session?: string };
  if (session !== undefined) sessions.set(name, session);
}

async function ask(name: string, path: string, body?: object, address = addressOf(name)): Promise<void> {
  const response = await fetch(gatewayUrl + path, {
    method: body === undefined ? 'GET' : 'PUT',
    headers: {
      authorization: `Bearer ${sessions.get(name)}`,
      'x-forwarded-for': address,
      ...(body && { 'content-type': 'application/json' }),
    },
    body: body === undefined ? null : JSON.stringify(body),
  });
  await response.arrayBuffer();
}

function addressOf(name: string): string {
  return PEOPLE.find((person) => person.name === name)?.address ?? '';
}

async function normalWork(): Promise<void> {
  const person = oneOf(PEOPLE as readonly [Person, ...Person[]]);
  const patient = `/patients/${1 + Math.floor(random() * PATIENTS)}`;
  if (person.role === 'export') return ask(person.name, '/invoices');
  if (person.role === 'clerk') return ask(person.name, oneOf([patient, '/invoices']));
  if (random() < 0.2) return ask(person.name, `${patient}/ward`, { ward: 1 + Math.floor(random() * 4) });
  return ask(person.name, oneOf([patient, `${patient}/notes`]));
}

/** What makes the day worth a look, by its step. */
const EVENTS: ReadonlyMap<number, () => Promise<void>> = new Map([
  [3, () => ask('alice', '/patients/7')],
  [4, () => ask('alice', '/patients/7/ward', { ward: 2 })],
  [8, () => ask('carl', '/patients/7/notes')],
  [14, () => ask('dora', '/patients/7/history')],
  [17, () => ask('bela', '/patients/3', undefined, ABROAD)],
  [20, () => ask('dora', '/patients/12/labs')],
  [24, guessPasswords],
  [28, readEverybody],
  [32, reportBehindSlowStatement],
  [35, () => ask('carl', '/patients/7/ward', { ward: 4 })],
]);

async function guessPasswords(): Promise<void> {
  for (const guess of ['dora', 'password', '123456', 'summer26', 'doctor', 'violin']) {
    await login('dora', guess, INTRUDER);
    await sleep(100);
  }
}

/** Whoever has the session of bela abroad, from the first patient to the last. */
async function readEverybody(): Promise<void> {
  for (let first = 1; first <= PATIENTS; first += READS_AT_ONCE) {
    const some = Array.from({ length: READS_AT_ONCE }, (_, index) => first + index);
    await Promise.all(some.map((id) => ask('bela', `/patients/${id}`, undefined, ABROAD)));
  }
}

/** One statement takes more than a second, and all that come meanwhile wait behind it. */
async function reportBehindSlowStatement(): Promise<void> {
  const slow = ask('dora', '/patients/9/history');
  await sleep(100);
  await Promise.all([slow, ...Array.from({ length: REPORTS }, () => ask('insurance-export', '/invoices'))]);
}

const messages = on(process, 'message');
process.send?.({});
const [{ gatewayUrl }] = (await messages.next()).value as [{ gatewayUrl: string }];
for (const { name, password, address } of PEOPLE) {
  await login(name, password, address);
  await sleep(STEP_MS);
}
// The database takes longest to come up.
await messages.next();
for (let step = 0; step < STEPS; step += 1) {
  await (EVENTS.get(step) ?? normalWork)();
  await sleep(STEP_MS * (0.5 + random()));
}
process.disconnect();
