/** The program of the thread of renewals (renewals.ts begins it). It ends with its process, or when it is told to. */
import { parentPort, workerData } from 'node:worker_threads';
import { connectRedis } from '../redis/connect.ts';
import type { FromThread, ThreadData, ToThread } from './renewals.ts';
import { Renewing } from './renewing.ts';

const { target, prefix, patience } = workerData as ThreadData;
const renewing = new Renewing({
  connect: () => connectRedis(target, prefix),
  lost: (token) => parentPort?.postMessage({ say: 'lost', token } satisfies FromThread),
  patience,
});
parentPort?.on('message', (words: ToThread) => renewing.hear(words));
