/** `lockstep token`: a token for the dashboard, and the line that lets its holder in. Asks no coordinator, and keeps neither. */
import { HOLDER, HOLDER_TEXT, lineOfHolder, newToken, sha256OfToken } from '../../shared/bearer_token.js';
import type { UserRole } from '../../shared/role.js';
import type { Context } from '../context.js';
import { CliError, type ExitCode, exitCodes } from '../exit_codes.js';
import type { JsonOption } from '../options.js';

export interface TokenOptions extends JsonOption {
  readonly role: UserRole;
}

export function token(context: Context, name: string, { role, json }: TokenOptions): ExitCode {
  if (!HOLDER.test(name)) throw new CliError(exitCodes.usage, `the name must be ${HOLDER_TEXT}`);
  const made = newToken();
  const line = lineOfHolder({ name, role, sha256: sha256OfToken(made) ?? '' });
  if (json) context.write(`${JSON.stringify({ event: 'token', name, role, token: made, line })}\n`);
  else context.write(`token  ${made}  (shown only now: for ${name})\nline   ${line}  (for the file of tokens)\n`);
  return exitCodes.ok;
}
