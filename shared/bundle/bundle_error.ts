/** A folder cannot be packed, or an archive cannot be trusted. The message is one line that names the file. */
export class BundleError extends Error {
  override readonly name = 'BundleError';
}
