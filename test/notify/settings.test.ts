import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openNotifiers, testChannel } from '../../src/app/notices.ts';
import { loadSettings } from '../../src/config/load.ts';
import { printableSettings } from '../../src/config/secrets.ts';

const folder = mkdtempSync(join(tmpdir(), 'spantrail-notify-'));
afterAll(() => rmSync(folder, { recursive: true }));

const SECRET = Buffer.alloc(32, 7).toString('base64');
const HOOK = { name: 'hook', type: 'webhook', url: 'https://hooks.example.com/x', secret: SECRET };
const MAIL = {
  ...{ name: 'mail', type: 'email', from: 'Audit <a@example.com>', to: ['b@example.com'] },
  smtp: { host: 'smtp.example.com' },
};

function load(notify: object) {
  const file = join(folder, 'settings.yaml');
  writeFileSync(file, JSON.stringify({ notify }));
  return loadSettings({ file, environment: {} }).notify;
}
const open = (notify: object) => openNotifiers(load(notify), { clock: { nowMs: () => 0 }, version: '1' });

describe('settings of notices', () => {
  it('may be short', async () => {
    const quiet = [{ times: 'Mon-Sun 22:00-06:00' }];
    const { channels } = await open({ channels: [HOOK, MAIL], routes: [{ rule: 'a*', channels: ['mail'] }], quiet });
    expect([...channels.keys()]).toEqual(['hook', 'mail']);
    expect([...(channels.get('hook')?.on ?? [])]).toEqual(['raised', 'acknowledged', 'closed']);
    expect([...(channels.get('mail')?.on ?? [])]).toEqual(['raised']);
    expect(load({ channels: [MAIL] }).channels[0]).toMatchObject({
      smtp: { security: 'starttls' },
      allowPrivate: false,
    });
  });

  it.each<[string, object, RegExp]>([
    [
      'a short secret',
      { channels: [{ ...HOOK, secret: 'whsec_abcd' }] },
      /channels\.0\.secret: must be whsec_ and the base64 of at least 24/,
    ],
    ['no secret', { channels: [{ ...HOOK, secret: undefined }] }, /channels\.0\.secret/],
    [
      'http',
      { channels: [{ ...HOOK, url: 'http://x.example/' }] },
      /channels\.0\.url: goes unencrypted, which only allowPrivate: true permits/,
    ],
    [
      'mail without TLS',
      { channels: [{ ...MAIL, smtp: { host: 'x', security: 'none' } }] },
      /channels\.0\.smtp\.security: goes unencrypted/,
    ],
    [
      'another kind of address',
      { channels: [{ ...HOOK, url: 'file:///etc/passwd' }] },
      /channels\.0\.url: must be an address like https/,
    ],
    ['an unknown type', { channels: [{ ...HOOK, type: 'pager' }] }, /channels\.0\.type/],
    ['a name twice', { channels: [HOOK, HOOK] }, /channels\.1\.name: hook is there twice/],
    [
      'a header with more in it',
      { channels: [{ ...HOOK, headers: { 'x-a: b\r\nx': '1' } }] },
      /channels\.0\.headers: names must be letters, digits and dashes/,
    ],
    [
      'a recipient with more in it',
      { channels: [{ ...MAIL, to: ['a@example.com\r\nBcc: b@example.com'] }] },
      /channels\.0\.to\.0: must be an address/,
    ],
    [
      'a route to nowhere',
      { channels: [HOOK], routes: [{ channels: ['hock'] }] },
      /routes\.0\.channels: there is no channel hock; there are hook/,
    ],
    [
      'quiet for nobody',
      { quiet: [{ times: 'Sat', channels: ['x'] }] },
      /quiet\.0\.channels: there is no channel x; there are none/,
    ],
    [
      'quiet times that are none',
      { quiet: [{ times: 'at night' }] },
      /notify\.quiet\.0\.times: "at night" must be like/,
    ],
    [
      'an unknown place',
      { channels: [{ ...HOOK, template: { text: '${raeson}' } }] },
      /notify\.channels\.0\.template\.text: there is no \$\{raeson\}; there are id, /,
    ],
    [
      'a missing authority',
      { channels: [{ ...HOOK, caFile: '/nowhere/ca.pem' }] },
      /notify\.channels\.0\.caFile: \/nowhere\/ca\.pem cannot be read/,
    ],
  ])('%s is refused, and named', async (_, notify, message) => {
    const error = await Promise.resolve()
      .then(() => open(notify))
      .then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
    expect(error).toMatchObject({ code: 'config', message: expect.stringMatching(message) });
    expect(String(error)).not.toContain(SECRET);
  });

  it('are printed without what proves who we are', () => {
    const channels = [
      { ...HOOK, headers: { 'x-key': 'hidden-1' } },
      { name: 'chat', type: 'slack', url: 'https://hooks.example.com/hidden-2' },
      { name: 'room', type: 'teams', url: 'https://hooks.example.com/hidden-3' },
      { name: 'oncall', type: 'pagerduty', routingKey: 'hidden-4' },
      { ...MAIL, smtp: { host: 'smtp.example.com', user: 'u', password: 'hidden-5' } },
    ];
    const printed = printableSettings(load({ channels }));
    expect(printed).not.toMatch(/hidden-/);
    expect(printed).not.toContain(SECRET);
    expect(JSON.parse(printed).channels).toMatchObject([
      { url: HOOK.url, secret: '(set)', headers: { 'x-key': '(set)' } },
      { url: '(set)' },
      { url: '(set)' },
      { routingKey: '(set)' },
      { smtp: { user: 'u', password: '(set)' } },
    ]);
  });

  it('name the channels there are when another is to be tried', async () => {
    const notifiers = await open({ channels: [HOOK] });
    await expect(testChannel(notifiers, 'hock', 0)).rejects.toMatchObject({
      code: 'not_found',
      message: 'there is no channel "hock"; there are hook',
    });
  });
});
