// The thread of renewals from its source: Node 20 reads no TypeScript, and tsx looks after a process's first thread only.
import { register } from 'tsx/esm/api';

register();
await import('../src/worker/renewal-thread.ts');
