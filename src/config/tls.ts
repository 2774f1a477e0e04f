import { z } from 'zod';

/** TLS of one listener: docs/senders.md. */
export const tls = z
  .strictObject({
    certFile: z
      .string()
      .min(1)
      .optional()
      .describe('PEM file of the server’s certificate, with those between it and the authority.'),
    keyFile: z.string().min(1).optional().describe('PEM file of its key.'),
    clientCaFile: z.string().min(1).optional().describe('PEM file of the authorities that sign clients’ certificates.'),
    clientCertificate: z
      .enum(['none', 'optional', 'required'])
      .default('none')
      .describe('Whether clients are asked for a certificate. One that its authority did not sign is never let in.'),
    crlFile: z
      .string()
      .min(1)
      .optional()
      .describe('PEM file of the authorities’ lists of revoked certificates; each authority needs one then.'),
  })
  .refine((tls) => (tls.clientCertificate === 'none') === (tls.clientCaFile === undefined), {
    path: ['clientCertificate'],
    error: 'optional and required need clientCaFile, and clientCaFile needs one of them',
  })
  .refine((tls) => tls.crlFile === undefined || tls.clientCaFile !== undefined, {
    path: ['crlFile'],
    error: 'is about clients’ certificates, so it needs clientCaFile',
  })
  .transform(({ certFile, keyFile, ...clients }, context) => {
    if (certFile !== undefined && keyFile !== undefined) return { certFile, keyFile, ...clients };
    if (certFile ?? keyFile ?? clients.clientCaFile) {
      context.addIssue({ code: 'custom', message: 'needs certFile and keyFile' });
    }
    return undefined;
  })
  .prefault({});
