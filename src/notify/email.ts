import { isIP } from 'node:net';
import { allowedAddresses, type Resolve } from './address.ts';
import type { Content } from './content.ts';
import { inTime } from './http-post.ts';
import type { Notice, Outcome } from './notice.ts';

export interface EmailSettings {
  readonly smtp: {
    readonly host: string;
    readonly port?: number | undefined;
    readonly security: 'tls' | 'starttls' | 'none';
    readonly user?: string | undefined;
    readonly password?: string | undefined;
  };
  readonly from: string;
  readonly to: readonly string[];
  readonly allowPrivate: boolean;
}

interface EmailSurroundings {
  readonly resolve: Resolve;
  readonly ca: string | undefined;
  readonly timeoutMs: number;
}

/** Of submission with implicit TLS (RFC 8314), submission, and plain transfer. */
const PORTS = { tls: 465, starttls: 587, none: 25 } as const;

/** A dialogue of so many steps may take so many times as long as one answer; one that drips on has failed. */
const DIALOGUE_STEPS = 6;

interface SmtpError extends Error {
  readonly code?: string;
  readonly responseCode?: number;
}

/**
 * One mail over a connection of its own. Its Message-ID is made of the notice's key, so that a mail sent twice (the server took it,
 * and its answer was lost) is known as the same.
 */
export async function sendEmail(
  { smtp, from, to, allowPrivate }: EmailSettings,
  { key, alert, change }: Notice,
  { title, text }: Content,
  { resolve, ca, timeoutMs }: EmailSurroundings,
): Promise<Outcome> {
  const finding = allowedAddresses(smtp.host, allowPrivate, resolve);
  const unresolved = 'its name could not be resolved in time';
  const [address] = await inTime(finding, AbortSignal.timeout(timeoutMs), unresolved);
  // Loaded with the first mail: most instances never send one.
  const { createTransport } = await import('nodemailer');
  const transport = createTransport({
    // The address that was checked; the certificate is still that of the name.
    host: address?.address ?? '',
    port: smtp.port ?? PORTS[smtp.security],
    secure: smtp.security === 'tls',
    requireTLS: smtp.security === 'starttls',
    ignoreTLS: smtp.security === 'none',
    tls: { ...(isIP(smtp.host) === 0 ? { servername: smtp.host } : {}), ...(ca === undefined ? {} : { ca }) },
    ...(smtp.user === undefined ? {} : { auth: { user: smtp.user, pass: smtp.password ?? '' } }),
    ...{ connectionTimeout: timeoutMs, greetingTimeout: timeoutMs, socketTimeout: timeoutMs },
    disableFileAccess: true,
    disableUrlAccess: true,
  });
  const domain = /@([^\s@<>]+)>?$/.exec(from)?.[1] ?? 'spantrail.invalid';
  const thread = `<${alert.id}.raised@${domain}>`;
  try {
    const sending = transport.sendMail({
      from,
      to: [...to],
      subject: title,
      text,
      messageId: `<${key}@${domain}>`,
      ...(change === 'raised' ? {} : { inReplyTo: thread, references: thread }),
      headers: { 'Auto-Submitted': 'auto-generated', 'X-Spantrail-Alert': alert.id },
    });
    const limitMs = DIALOGUE_STEPS * timeoutMs;
    const sent = await inTime(sending, AbortSignal.timeout(limitMs), `not done within ${limitMs / 1000} s`);
    if (sent.rejected.length === 0) return { kind: 'delivered', answer: sent.response };
    // The others have it: another attempt would send it to them again.
    return { kind: 'dead', reason: `sent, but not to ${sent.rejected.join(', ')}: the server refused them` };
  } catch (error) {
    return failureOf(error as SmtpError);
  } finally {
    transport.close();
  }
}

/** 5xx is final (RFC 5321, 4.2.1), but for what is said of who we are: that may be mended. */
function failureOf({ message, code, responseCode = 0 }: SmtpError): Outcome {
  const isFinal = responseCode >= 500 && code !== 'EAUTH';
  return { kind: isFinal ? 'dead' : 'failed', reason: message.replace(/\s+/g, ' ').slice(0, 300) };
}
