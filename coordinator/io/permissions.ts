/** Who may call what over gRPC: the one table of it (web/acts.ts says it of the pages). docs/security.md shows it to people. */
import type { Role } from '../../shared/identity/identity.js';

export interface Permission {
  readonly roles: readonly Role[];
  /** It changes something, and goes into the audit log whatever becomes of it. */
  readonly changes: boolean;
}

const reading: Permission = { roles: ['viewer', 'submitter', 'admin'], changes: false };
/** Of jobs: a submitter only of his own, which is for the handler to see. */
const submitting: Permission = { roles: ['submitter', 'admin'], changes: true };
const administering: Permission = { roles: ['admin'], changes: true };
const working: Permission = { roles: ['worker'], changes: false };

/** By service and method. A method that is not here cannot be served. */
export const PERMISSIONS: Readonly<Record<string, Permission>> = {
  'Jobs.Get': reading,
  'Jobs.List': reading,
  'Jobs.Watch': reading,
  'Jobs.Logs': reading,
  'Jobs.Nodes': reading,
  'Jobs.ClusterUsage': reading,
  'Jobs.Audit': reading,
  'Jobs.Checkpoints': reading,
  'Jobs.Submit': submitting,
  'Jobs.Cancel': submitting,
  'Jobs.Resume': submitting,
  'Jobs.Cordon': administering,
  'Jobs.Uncordon': administering,
  'Jobs.Drain': administering,
  'Bundles.Find': { ...submitting, changes: false },
  'Bundles.Upload': submitting,
  'Bundles.Fetch': working,
  'Session.Connect': working,
  'Tokens.Create': administering,
};
