/** Binds a gRPC server. */
import type { Server, ServerCredentials } from '@grpc/grpc-js';

/** Resolves with the port. */
export function listen(server: Server, address: string, credentials: ServerCredentials): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync(address, credentials, (error, port) => {
      if (error === null) resolve(port);
      else reject(error);
    });
  });
}
