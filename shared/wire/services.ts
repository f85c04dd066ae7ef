/** Loads the .proto files. The only place that knows proto-loader. */
import { fileURLToPath } from 'node:url';
import { type GrpcObject, loadPackageDefinition, type ServiceClientConstructor } from '@grpc/grpc-js';
import { loadSync, type PackageDefinition } from '@grpc/proto-loader';

/** dist/shared/wire/services.js and shared/wire/services.ts are at different depths below the repository. */
function protoFolder(): string {
  const here = fileURLToPath(new URL('.', import.meta.url));
  return import.meta.url.endsWith('.ts') ? `${here}../../proto` : `${here}../../../proto`;
}

export const packageDefinition: PackageDefinition = loadSync(
  ['jobs.proto', 'bundles.proto', 'session.proto', 'peer.proto', 'identity.proto'],
  {
    includeDirs: [protoFolder()],
    longs: Number,
    enums: String,
    defaults: true,
    oneofs: true,
  },
);

const loaded = loadPackageDefinition(packageDefinition) as unknown as {
  readonly lockstep: Readonly<Record<'jobs' | 'bundles' | 'session' | 'peer' | 'identity', GrpcObject>>;
};

export const JobsClient = loaded.lockstep.jobs['Jobs'] as ServiceClientConstructor;
export const BundlesClient = loaded.lockstep.bundles['Bundles'] as ServiceClientConstructor;
export const SessionClient = loaded.lockstep.session['Session'] as ServiceClientConstructor;
export const PeerClient = loaded.lockstep.peer['Peer'] as ServiceClientConstructor;
export const TokensClient = loaded.lockstep.identity['Tokens'] as ServiceClientConstructor;
export const JoinClient = loaded.lockstep.identity['Join'] as ServiceClientConstructor;
