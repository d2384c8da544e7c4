/** A whole root is made anew, and the right to write the image is lost meanwhile: the job's claim is not. */
import { expect, test } from 'vitest';
import { newGeneration } from '../../../src/golden/new-generation.ts';
import type { FenceSource } from '../../../src/golden/fence-source.ts';
import { readHead } from '../../../src/golden/store.ts';
import { Interruption, ImageLeaseLost, LeaseLost } from '../../../src/protocol/errors.ts';
import { judge } from '../../../src/worker/settle.ts';
import { publishFiles, temporaryState } from './fixtures/images.ts';

test.each([undefined, new Interruption('cancelled')])(
  'is an error of the image, unless the job is stopped: %s',
  async (why) => {
    await using state = await temporaryState();
    await publishFiles(state, 'base', { file: 'old' });
    const lost = new AbortController();
    const stop = new AbortController();
    const leases: FenceSource = {
      acquire: async (_, floor) => ({ fence: floor + 1, signal: lost.signal, async [Symbol.asyncDispose]() {} }),
    };
    const tools = { store: state, leases, sessionId: 'x', by: 'test', progress: () => {} };
    const made = newGeneration(
      'base',
      'replace',
      tools,
      async () => {
        if (why !== undefined) stop.abort(why);
        lost.abort(new ImageLeaseLost('somebody broke it'));
        throw new Error('mmdebstrap: killed'); // its echo
      },
      stop.signal,
    );
    const error: unknown = await made.catch((thrown: unknown) => thrown);
    expect(error).not.toBeInstanceOf(LeaseLost);
    if (why === undefined) expect(judge(error)).toEqual({ kind: 'retry', of: 'image' });
    else expect(error).toMatchObject({ message: 'mmdebstrap: killed' });
    expect((await readHead(state, 'base')).generation).toBe(1);
  },
);
