/** A call with one request has to say it in time: a stream that is opened and left costs memory for as long as it stays open. */
import { ServerInterceptingCall, type ServerInterceptor, status } from '@grpc/grpc-js';

export function requestDeadline(limitMs: number): ServerInterceptor {
  return (method, call) => {
    if (method.requestStream) return new ServerInterceptingCall(call);
    const late = (): void =>
      call.sendStatus({ code: status.DEADLINE_EXCEEDED, details: `the request was not whole within ${limitMs} ms` });
    const overdue = setTimeout(late, limitMs);
    return new ServerInterceptingCall(call, {
      start: (next) => {
        next({
          onReceiveMetadata: (metadata, pass) => pass(metadata),
          onReceiveMessage: (message, pass) => pass(message),
          onReceiveHalfClose: (pass) => {
            clearTimeout(overdue);
            pass();
          },
          onCancel: () => clearTimeout(overdue),
        });
      },
      sendMetadata: (metadata, next) => next(metadata),
      sendMessage: (message, next) => next(message),
      sendStatus: (end, next) => {
        clearTimeout(overdue);
        next(end);
      },
    });
  };
}
