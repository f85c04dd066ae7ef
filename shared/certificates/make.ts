/** A key with its certificate, in a folder of its own. */
import { createKey, issue, type Subject, type Validity } from './authority.js';
import { readAuthority, writeIdentity } from './folder.js';

/** Returns the certificate. */
export async function makeCertificate(
  authorityFolder: string,
  folder: string,
  subject: Subject,
  validity: Validity,
): Promise<string> {
  const authority = readAuthority(authorityFolder);
  const { key, request } = await createKey();
  const certificate = await issue(authority, request, subject, validity);
  writeIdentity(folder, { ca: authority.certificate, certificate, key });
  return certificate;
}
