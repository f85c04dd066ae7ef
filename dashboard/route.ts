/** Which page is shown, by the part of the address after '#': it survives a reload and the way to another coordinator. */
export type Route =
  | { readonly kind: 'jobs' }
  | { readonly kind: 'nodes' }
  | { readonly kind: 'job'; readonly job: string };

export function routeOf(hash: string): Route {
  const [page = '', job] = hash.replace(/^#\/?/, '').split('/');
  if (page === 'nodes') return { kind: 'nodes' };
  if (page === 'jobs' && job !== undefined && job !== '') return { kind: 'job', job: decoded(job) };
  return { kind: 'jobs' };
}

export function jobAddress(job: string): string {
  return `#/jobs/${encodeURIComponent(job)}`;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
