import { describe, expect, it } from 'vitest';
import { clientOf, compileOrigin } from '../../src/access/origin.ts';
import { compileRules } from '../../src/access/rules.ts';
import { DEFAULT_ACCESS_SETTINGS } from '../../src/access/settings.ts';
import { originSettings } from '../fixtures/origin.ts';
import { span, type Values } from './evidence.ts';

const RULES = compileOrigin(originSettings(['10.0.0.0/8', '2001:db8:1::/48']));
const PROXY = { 'network.peer.address': '10.0.0.2' };
const forwardedFor = (...values: string[]) => ({ 'http.request.header.x-forwarded-for': values });

describe('where a request came from', () => {
  it.each<[string, Values, string | undefined]>([
    ['nothing is known', {}, undefined],
    ['whoever is connected', { 'network.peer.address': '203.0.113.9' }, '203.0.113.9'],
    [
      'whoever is connected, whatever headers say',
      { 'network.peer.address': '203.0.113.9', ...forwardedFor('192.0.2.1'), 'client.address': '192.0.2.1' },
      '203.0.113.9',
    ],
    ['the same in older names', { 'net.sock.peer.addr': '203.0.113.9', 'http.client_ip': '192.0.2.1' }, '203.0.113.9'],
    ['whom a trusted proxy saw', { ...PROXY, ...forwardedFor('203.0.113.9') }, '203.0.113.9'],
    [
      'the last one that no trusted proxy vouches for, not what the caller wrote before',
      { ...PROXY, ...forwardedFor('1.2.3.4, 203.0.113.9, 10.0.0.7'), 'client.address': '1.2.3.4' },
      '203.0.113.9',
    ],
    ['header lines of one name as one list', { ...PROXY, ...forwardedFor('1.2.3.4', '203.0.113.9') }, '203.0.113.9'],
    ['the first proxy, where all are trusted', { ...PROXY, ...forwardedFor('10.0.0.9, 10.0.0.8') }, '10.0.0.9'],
    ['the proxy that could not tell', { ...PROXY, ...forwardedFor('1.2.3.4, unknown, 10.0.0.8') }, '10.0.0.8'],
    ['an address with a port', { ...PROXY, ...forwardedFor('203.0.113.9:4711') }, '203.0.113.9'],
    [
      'the same header under its name with underscores',
      { ...PROXY, 'http.request.header.x_forwarded_for': '203.0.113.9' },
      '203.0.113.9',
    ],
    [
      'the for of Forwarded',
      { ...PROXY, 'http.request.header.forwarded': ['for=1.2.3.4;proto=http, For="[2001:DB8:2::1]:4711";by=10.0.0.2'] },
      '2001:db8:2::1',
    ],
    ['nobody that hides', { ...PROXY, 'http.request.header.forwarded': ['for=_hidden'] }, '10.0.0.2'],
    [
      'one address of a content network',
      { ...PROXY, 'http.request.header.cf-connecting-ip': ['203.0.113.9'] },
      '203.0.113.9',
    ],
    [
      'the header that is named first',
      { ...PROXY, ...forwardedFor('203.0.113.9'), 'http.request.header.x-real-ip': ['1.2.3.4'] },
      '203.0.113.9',
    ],
    [
      'what the instrumentation of a trusted proxy’s server says',
      { ...PROXY, 'client.address': '203.0.113.9' },
      '203.0.113.9',
    ],
    ['the client alone', { 'client.address': '203.0.113.9' }, '203.0.113.9'],
    [
      'past a proxy that stands as the client',
      { 'client.address': '10.0.0.2', ...forwardedFor('203.0.113.9') },
      '203.0.113.9',
    ],
    ['an IPv6 proxy', { 'network.peer.address': '2001:db8:1::5', ...forwardedFor('2001:db8:2::9') }, '2001:db8:2::9'],
    [
      'an IPv4 proxy in IPv6',
      { 'network.peer.address': '::ffff:10.0.0.2', ...forwardedFor('203.0.113.9') },
      '203.0.113.9',
    ],
    ['no garbage', { ...PROXY, ...forwardedFor('<script>') }, '10.0.0.2'],
  ])('%s', (_, values, expected) => {
    expect(clientOf(span(values).attributes, RULES)?.ip).toBe(expected);
  });

  it('the port is told of the address that it belongs to alone', () => {
    const peer = { 'network.peer.address': '203.0.113.9', 'network.peer.port': 4711, 'client.port': 5 };
    expect(clientOf(span(peer).attributes, RULES)).toEqual({ ip: '203.0.113.9', port: 4711 });
    const behind = { ...PROXY, 'network.peer.port': 4711, ...forwardedFor('203.0.113.9') };
    expect(clientOf(span(behind).attributes, RULES)).toEqual({ ip: '203.0.113.9' });
    const told = { ...PROXY, 'network.peer.port': 4711, 'client.address': '203.0.113.9', 'client.port': 5 };
    expect(clientOf(span(told).attributes, RULES)).toEqual({ ip: '203.0.113.9', port: 5 });
  });

  it('a long list of hops is looked at from its end', () => {
    const hops = [...Array<string>(500).fill('1.2.3.4'), '203.0.113.9', '10.0.0.5'].join(',');
    expect(clientOf(span({ ...PROXY, ...forwardedFor(hops) }).attributes, RULES)?.ip).toBe('203.0.113.9');
  });

  it('a network that is none is refused, and captured headers are among the keys that are decoded', () => {
    const settings = { ...DEFAULT_ACCESS_SETTINGS, origin: originSettings(['10.0.0.0/40']) };
    expect(() => compileRules(settings)).toThrow('origin.trustedProxies: "10.0.0.0/40"');
    const { keys } = compileRules({ ...DEFAULT_ACCESS_SETTINGS, origin: originSettings([]) });
    expect(keys).toContain('http.request.header.x_forwarded_for');
  });
});
