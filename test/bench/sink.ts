import { createServer } from 'node:http2';
import { GRPC_PREFIX_BYTES } from './workload.ts';

/** A bare gRPC sink that reads and acknowledges: what the load generator itself can do. Prints its port as `serve` does. */
export function runSink(): void {
  const emptyMessage = Buffer.alloc(GRPC_PREFIX_BYTES);
  const server = createServer({ settings: { initialWindowSize: 1 << 20 } });
  server.on('connection', (socket) => socket.setNoDelay(true));
  server.on('session', (session) => session.setLocalWindowSize(8 << 20));
  server.on('stream', (stream) => {
    stream.on('data', () => undefined);
    stream.on('end', () => {
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
      stream.end(emptyMessage);
    });
    stream.on('error', () => undefined);
  });
  server.listen(0, '127.0.0.1', () => {
    const address = server.address();
    if (typeof address === 'object' && address) process.stdout.write(`${JSON.stringify({ grpc: address.port })}\n`);
  });
  process.on('SIGTERM', () => process.exit(0));
}
