/** What Lockstep can send gradients as. */
export const FORMATS = ['fp32', 'bf16'] as const;
export type Format = (typeof FORMATS)[number];
