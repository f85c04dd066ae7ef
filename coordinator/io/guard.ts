/** Stands before the handlers of every gRPC service: asks who calls, looks whether he may, and writes down what came of it. */
import { type ServiceDefinition, status, type UntypedServiceImplementation } from '@grpc/grpc-js';
import { z } from 'zod';
import { callerOf } from '../../shared/identity/caller.js';
import { described, type Identity } from '../../shared/identity/identity.js';
import { type AnyCall, type AnyHandler, handlersOf, implementationOf } from '../../shared/wire/handlers.js';
import type { AuditTrail } from './audit_log.js';
import { PERMISSIONS, type Permission } from './permissions.js';
import { type Refusal, refusal } from './refusal.js';
import { RefusalNotes } from './refusal_notes.js';

/** Of each thing that an audit entry names. */
const MOST_CHARACTERS = 256;

export interface GuardOptions {
  /** Callers have certificates. Otherwise whoever reaches the port may do everything. */
  readonly secured: boolean;
  readonly audit: AuditTrail;
}

/** The same service, guarded. Throws for a method that nobody has been permitted: it would be a fault of ours. */
export function guarded(
  service: ServiceDefinition,
  implementation: UntypedServiceImplementation,
  options: GuardOptions,
): UntypedServiceImplementation {
  const handlers = new Map(handlersOf(implementation));
  const notes = new RefusalNotes(options.audit);
  for (const { path, originalName = '' } of Object.values(service)) {
    const call = nameOf(path);
    const permission = PERMISSIONS[call];
    const handle = handlers.get(originalName);
    if (permission === undefined || handle === undefined) throw new Error(`${call} is not in the table of permissions`);
    handlers.set(originalName, guardedHandler(call, permission, handle, { ...options, notes }));
  }
  return implementationOf(handlers);
}

/** "/lockstep.jobs.Jobs/Submit" is Jobs.Submit. */
function nameOf(path: string): string {
  return path.slice(path.lastIndexOf('.') + 1).replace('/', '.');
}

function guardedHandler(
  name: string,
  permission: Permission,
  handle: AnyHandler,
  { secured, audit, notes }: GuardOptions & { readonly notes: RefusalNotes },
): AnyHandler {
  return (call, reply) => {
    const caller = callerOf(call);
    const who = caller === undefined ? (secured ? 'nobody' : 'local') : described(caller);
    const note = (outcome: string, reason?: string, answer?: unknown): void =>
      (outcome === 'OK' ? audit : notes).record({
        who,
        from: call.getPeer(),
        call: name,
        on: { ...named(call.request), ...named(answer) },
        outcome,
        ...(reason === undefined ? {} : { reason }),
      });
    const refused = (secured ? objectionTo(caller, name, permission) : undefined) ?? unwritten(permission, audit);
    if (refused !== undefined) {
      note(status[refused.code], refused.details);
      refuse(call, reply, refused);
    } else if (!permission.changes || reply === undefined) {
      handle(call, reply);
    } else {
      handle(call, (error, answer, ...rest) => {
        if (error) note(status[error.code ?? status.UNKNOWN], error.details);
        else note('OK', undefined, answer);
        reply(error, answer, ...rest);
      });
    }
  };
}

function objectionTo(caller: Identity | undefined, name: string, { roles }: Permission): Refusal | undefined {
  if (caller === undefined) return refusal(status.UNAUTHENTICATED, `${name}: the certificate names nobody of Lockstep`);
  if (roles.includes(caller.role)) return undefined;
  return refusal(
    status.PERMISSION_DENIED,
    `${described(caller)} may not call ${name}, which is for: ${roles.join(', ')}`,
  );
}

/** What changes something must be written down. */
function unwritten({ changes }: Permission, { objection }: AuditTrail): Refusal | undefined {
  return changes && objection !== undefined ? refusal(status.RESOURCE_EXHAUSTED, objection) : undefined;
}

function refuse(call: AnyCall, reply: Parameters<AnyHandler>[1], refused: Refusal): void {
  if (reply !== undefined) reply(refused, null);
  else {
    call.on('error', () => undefined);
    call.emit('error', refused);
  }
}

/** What of a request or an answer says what the call was about. */
const subject = z.object({
  job: z.string().optional().catch(undefined),
  worker: z.string().optional().catch(undefined),
  reason: z.string().optional().catch(undefined),
  sha256: z.string().optional().catch(undefined),
  spec: z.object({ name: z.string() }).optional().catch(undefined),
});

function named(message: unknown): Record<string, string> {
  const { spec, ...fields } = subject.safeParse(message).data ?? {};
  const all = { ...fields, name: spec?.name };
  return Object.fromEntries(
    Object.entries(all).flatMap(([key, value]) =>
      value === undefined || value === '' ? [] : [[key, value.slice(0, MOST_CHARACTERS)]],
    ),
  );
}
