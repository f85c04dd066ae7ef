/** `lockstep verify`: whether a checkpoint is whole. Asks no coordinator. */
import { DamagedCheckpoint, MissingCheckpoint, StorageFailure } from '../../shared/checkpoint/errors.js';
import { s3FromEnvironment } from '../../shared/checkpoint/s3_environment.js';
import { type VerifiedCheckpoint, verifyCheckpoint } from '../../shared/checkpoint/verify.js';
import { formatBytes } from '../../shared/text/numbers.js';
import type { Context } from '../context.js';
import { CliError, type ExitCode, exitCodes } from '../exit_codes.js';
import type { JsonOption } from '../options.js';

/** Ends with 1 when it is damaged, and with 3 when there is none or it cannot be read. */
export async function verify(context: Context, path: string, options: JsonOption): Promise<ExitCode> {
  try {
    const { environment, signal } = context;
    const verified = await verifyCheckpoint(path, { s3: s3FromEnvironment(environment), signal });
    context.write(options.json ? `${JSON.stringify(verifiedJson(verified))}\n` : `${verifiedText(verified)}\n`);
    return exitCodes.ok;
  } catch (error) {
    if (context.signal.aborted) throw new CliError(exitCodes.interrupted, 'interrupted');
    if (error instanceof MissingCheckpoint) throw new CliError(exitCodes.notFound, error.message);
    if (error instanceof DamagedCheckpoint) throw new CliError(exitCodes.jobFailed, error.message);
    if (error instanceof StorageFailure) throw new CliError(exitCodes.notFound, error.message);
    throw error;
  }
}

function verifiedJson({ path, manifest, manifestSha256, bytes }: VerifiedCheckpoint) {
  const { description, stateSha256 } = manifest;
  const { job, name, committed } = description;
  return {
    event: 'verified',
    path,
    job,
    name,
    step: committed,
    bytes,
    state: stateSha256,
    manifest_sha256: manifestSha256,
  };
}

function verifiedText({ path, manifest, bytes }: VerifiedCheckpoint): string {
  const { description, shards, stateSha256 } = manifest;
  return [
    `${path} is whole`,
    `  job      ${description.name} (${description.job})`,
    `  step     ${description.committed}`,
    `  size     ${formatBytes(bytes)} in ${shards.length} shards`,
    `  state    ${stateSha256}`,
  ].join('\n');
}
