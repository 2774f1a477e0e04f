import { describe, expect, it } from 'vitest';
import { checkExposure } from '../../src/app/exposure.ts';
import { hashToken } from '../../src/auth/token.ts';
import { settingsSchema } from '../../src/config/schema.ts';

const auth = { tokens: [{ name: 'agent', can: ['send'], hash: hashToken('') }] };
const tls = { certFile: 'a', keyFile: 'b' };
const all = (more: object) => ({ receive: { grpc: more, http: more }, api: more });

function problems(given: object): string {
  try {
    return checkExposure(settingsSchema.parse(given)).join('\n');
  } catch (error) {
    return `refused: ${error instanceof Error ? error.message : error}`;
  }
}

describe('what other machines can reach', () => {
  it.each(['127.0.0.1', '127.8.9.1', '::1', 'localhost'])('is not %s', (host) => {
    expect(problems(all({ host }))).toBe('');
  });

  it.each(['0.0.0.0', '::', '10.0.0.7', 'spantrail.internal', '::ffff:10.0.0.7'])('is %s, which needs both', (host) => {
    const message = problems(all({ host }));
    for (const name of ['receive.grpc', 'receive.http', 'api']) {
      expect(message).toContain(
        `${name}.host is ${host}, which other machines can reach, without TLS (${name}.tls: certFile, keyFile) and authentication (auth.tokens`,
      );
    }
    expect(message).toMatch(/^refused: .*docs\/senders\.md.*--insecure$/s);
    expect(problems({ auth, ...all({ host, tls }) })).toBe('');
    expect(problems({ auth, ...all({ host }) })).toMatch(
      /^refused: .*without TLS \(receive\.grpc\.tls: certFile, keyFile\)\n/,
    );
    expect(problems(all({ host, tls }))).toMatch(/^refused: .*without authentication \(/);
    expect(problems({ insecure: true, ...all({ host }) })).toMatch(/; allowed by "insecure"$/);
  });

  it('is asked of each listener', () => {
    const open = { host: '0.0.0.0' };
    expect(problems({ receive: { grpc: open } }).split('\n')).toHaveLength(2);
    expect(problems({ receive: { http: open } })).toContain('receive.http.host');
    expect(problems({ api: open })).toContain('api.host');
    expect(problems({ auth, receive: { grpc: { host: '0.0.0.0', tls } }, api: open })).not.toContain('receive.grpc');
  });

  it('are certificates only where a listener asks for them', () => {
    const certificates = [{ name: 'agent', can: ['send'], subject: { CN: 'agent' } }];
    expect(problems({ auth: { certificates } })).toMatch(/^refused: auth\.certificates: no listener asks/);
    const mutual = { ...tls, clientCaFile: 'c', clientCertificate: 'optional' };
    expect(problems({ auth: { certificates }, receive: { grpc: { tls: mutual } } })).toBe('');
  });
});
