/** So long a worker that is drained may take to leave its job in good order, unless somebody says otherwise. */
export const DRAIN_SECONDS = 300;
