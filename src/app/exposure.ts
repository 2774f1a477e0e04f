import type { Settings } from '../config/schema.ts';
import { AppError } from '../core/errors.ts';
import { compileNetworks } from '../core/network.ts';

const isLoopbackAddress = compileNetworks('loopback', ['127.0.0.0/8', '::1']);

function isLoopback(host: string): boolean {
  return host === 'localhost' || isLoopbackAddress(host);
}

/**
 * Whoever reaches a listener could send evidence, read records or change something. So one that other machines reach needs TLS and
 * authentication, unless the settings say that something else protects it. Pure. Throws AppError('config') with a line for each
 * listener; returns what is to be told otherwise.
 */
export function checkExposure({
  auth,
  receive,
  api,
  insecure,
}: Pick<Settings, 'auth' | 'receive' | 'api' | 'insecure'>): string[] {
  const listeners = [
    { ...receive.grpc, name: 'receive.grpc' },
    { ...receive.http, name: 'receive.http' },
    { ...api, name: 'api' },
  ];
  const isAuthOn = auth.tokens.length > 0 || auth.certificates.length > 0 || auth.tokensFile !== undefined;
  const asksForCertificates = listeners.some(({ tls }) => tls !== undefined && tls.clientCertificate !== 'none');
  if (auth.certificates.length > 0 && !asksForCertificates) {
    const words =
      'auth.certificates: no listener asks for a certificate; set clientCaFile and clientCertificate of its tls';
    throw new AppError('config', words);
  }
  const problems = listeners.flatMap(({ name, host, tls }) => {
    if (isLoopback(host) || (tls && isAuthOn)) return [];
    const missing = [
      tls ? [] : `TLS (${name}.tls: certFile, keyFile)`,
      isAuthOn ? [] : 'authentication (auth.tokens: "spantrail token create NAME --can send")',
    ];
    return [`${name}.host is ${host}, which other machines can reach, without ${missing.flat().join(' and ')}`];
  });
  if (problems.length === 0) return [];
  if (insecure) return problems.map((problem) => `${problem}; allowed by "insecure"`);
  const remedy =
    'Set what is missing (docs/senders.md), listen on 127.0.0.1, or, where something else protects it, start with --insecure';
  throw new AppError('config', [...problems, remedy].join('\n'));
}
