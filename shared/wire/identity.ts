/** Our types for proto/identity.proto. */
import { type Infer, message, text, uint53 } from './codec.js';

const MOST_PEM_CHARACTERS = 16_384;

const token = text(256);

export const createTokenRequest = message({ worker: text(128), lifetimeMs: uint53 });
export const joinToken = message({ token, address: text(300), expiresMs: uint53 });
export type JoinToken = Infer<typeof joinToken>;
export const joinRequest = message({ token, request: text(MOST_PEM_CHARACTERS) });
export const joinAnswer = message({ certificate: text(MOST_PEM_CHARACTERS), ca: text(MOST_PEM_CHARACTERS) });
export type JoinAnswer = Infer<typeof joinAnswer>;
