/**
 * For tests whose bound is a time on the clock, or whose course depends on one: a machine that is busy with something else for a moment
 * gets another try. What is always too slow fails all the same.
 */
export const timed = { retry: 2 } as const;
