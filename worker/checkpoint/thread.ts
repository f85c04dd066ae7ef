/** The checkpoint thread: saves and restores beside the training, at a low priority. */
import { parentPort, workerData } from 'node:worker_threads';
import { CheckpointWork } from './checkpoint_work.js';
import type { FromThread, ThreadOptions, ToThread } from './thread_messages.js';
import { lowerOwnPriority } from './thread_priority.js';

const port = parentPort;
if (port === null) throw new Error('thread.ts is the entry of a worker thread');
const options: ThreadOptions = workerData;
const post = (message: FromThread): void => port.postMessage(message);
const work = new CheckpointWork({
  storage: options.storage,
  emit: (event) => post({ kind: 'event', event }),
  log: (level, line) => post({ kind: 'log', level, line }),
});
lowerOwnPriority();
port.on('message', (message: ToThread) => {
  if (message.kind === 'command') work.obey(message.command);
  else void work.shutDown().then(() => port.close());
});
