/** Who runs this process, by the name that the system has for that user. */
import { userInfo } from 'node:os';

/** In a container, say, a user may be no more than a number. */
export function loginName(): string {
  try {
    return userInfo().username;
  } catch {
    return `uid${process.getuid?.() ?? ''}`;
  }
}
