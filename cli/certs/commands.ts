/** `lockstep certs` and the commands below it. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { NAME, NAME_TEXT } from '../../shared/name.js';
import { USER_ROLES } from '../../shared/role.js';
import {
  AUTHORITY_DAYS,
  CERTIFICATE_DAYS,
  createToken,
  DEFAULT_FOLDER,
  initAuthority,
  issueEtcd,
  issueIdentity,
  joinCluster,
  renew,
  showCertificates,
} from '../commands/certs.js';
import type { Context } from '../context.js';
import { CliError, type ExitCode, exitCodes } from '../exit_codes.js';
import { wholeNumberOption, withJson, withServer } from '../options.js';

const MOST_DAYS = 36_500;
const DEFAULT_TOKEN_MS = 15 * 60_000;
const UNITS_MS = new Map([
  ['s', 1_000],
  ['m', 60_000],
  ['h', 3_600_000],
]);

export function addCerts(
  program: Command,
  context: Context,
  finish: (command: ExitCode | Promise<ExitCode>) => Promise<void>,
): void {
  const certs = program.command('certs').description('make and show the certificates by which a cluster knows its own');
  withJson(certs.command('init [folder]').description("make the cluster's authority"))
    .option('--days <n>', 'how long it is valid', wholeNumberOption(1, MOST_DAYS), AUTHORITY_DAYS)
    .action((folder = DEFAULT_FOLDER, options) => finish(initAuthority(context, folder, options)));
  issuing(certs.command('worker <name>').description('make the certificate of a worker')).action((name, options) =>
    finish(issueIdentity(context, 'worker', checkedName(name), options)),
  );
  addressed(issuing(certs.command('coordinator <name>').description('make the certificate of a coordinator'))).action(
    (name, options) => finish(issueIdentity(context, 'coordinator', checkedName(name), options)),
  );
  issuing(certs.command('user <name>').description('make the certificate of somebody who submits jobs, or looks on'))
    .addOption(new Option('--role <role>', 'what he may do').choices(USER_ROLES).makeOptionMandatory())
    .action((name, options) => finish(issueIdentity(context, options.role, checkedName(name), options)));
  addressed(issuing(certs.command('etcd <name>').description('make the certificate of a member of etcd'))).action(
    (name, options) => finish(issueEtcd(context, checkedName(name), options)),
  );
  issuing(
    certs
      .command('renew <folder>')
      .description('make a new certificate for the key in a folder, in the place of the old'),
  ).action((folder, options) => finish(renew(context, folder, options)));
  withJson(
    certs.command('show <file...>').description('show whose certificates these are; exits with 1 if one is not valid'),
  ).action((files, options) => finish(showCertificates(context, files, options)));
  withServer(
    withJson(certs.command('token <worker>').description('let one new machine get the certificate of this worker')),
  )
    .option('--expires <time>', 'from now on, as 90s, 15m or 2h', duration, DEFAULT_TOKEN_MS)
    .action((worker, options) => finish(createToken(context, checkedName(worker), options)));
  withJson(certs.command('join').description('get the certificate of this machine for a token'))
    .requiredOption('--server <host:port>', 'address where machines join; `certs token` prints it')
    .requiredOption('--token <token>', 'from `certs token`; it works once')
    .requiredOption('--dir <folder>', 'where the key, which is made here, and the certificates go')
    .action((options) => finish(joinCluster(context, options)));
}

function issuing(command: Command): Command {
  return withJson(command)
    .option('--dir <folder>', "the authority's folder", DEFAULT_FOLDER)
    .option('--days <n>', 'how long it is valid', wholeNumberOption(1, MOST_DAYS), CERTIFICATE_DAYS);
}

function addressed(command: Command): Command {
  return command.option('--address <host>', 'a name or address that it is reached by; can be repeated', address);
}

function address(value: string, before: readonly string[] = []): readonly string[] {
  if (/^[A-Za-z0-9][A-Za-z0-9.-]{0,252}$|^[0-9a-fA-F:]{2,45}$/.test(value)) return [...before, value];
  throw new InvalidArgumentError('It must be a host name or an IP address.');
}

function checkedName(name: string): string {
  if (NAME.test(name)) return name;
  throw new CliError(exitCodes.usage, `${JSON.stringify(name.slice(0, 80))}: a name must be ${NAME_TEXT}`);
}

function duration(text: string): number {
  const [, count, unit = ''] = /^(\d{1,6})([smh])$/.exec(text) ?? [];
  const unitMs = UNITS_MS.get(unit);
  if (count === undefined || unitMs === undefined || Number(count) === 0) {
    throw new InvalidArgumentError('It must be a time such as 90s, 15m or 2h.');
  }
  return Number(count) * unitMs;
}
