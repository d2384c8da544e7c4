/**
 * update-golden jobs, with apt, that are killed at any moment, on every backend: after each the image opens, is the old
 * generation or the new one by its digest, and nothing is left. qemu is left out: a machine takes a minute to start here.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { overlayBackend } from '../../src/backends/overlay/index.ts';
import { stateAt } from '../../src/config/state.ts';
import { isExecutable } from '../../src/exec/executable.ts';
import { dice, faults } from './fixtures/dice.ts';
import { dockerUnavailable, startDockerDaemon, type DockerDaemon } from './fixtures/docker-daemon.ts';
import { describeWith } from './fixtures/requirements.ts';
import { makeUpdater, type Updater } from './fixtures/updater.ts';
import { Victim, victimImage } from './fixtures/victim.ts';

const notRoot = process.getuid?.() === 0 ? undefined : 'not root';
const noOverlay = notRoot ?? (await overlayBackend(stateAt('/nonexistent')).unavailable());
const noSchroot = noOverlay ?? (isExecutable('/usr/bin/schroot') ? undefined : 'apt-get install schroot');
/** In a run that tells no number: what differs between the backends is how long an update takes, and how it is undone. */
const usual = { overlay: 14, schroot: 5, docker: 3 } as const;

let victim: Victim;
let updater: Updater;
let daemon: DockerDaemon | undefined;
beforeAll(async () => {
  if (noOverlay !== undefined) return;
  updater = await makeUpdater();
  if (dockerUnavailable() === undefined) daemon = await startDockerDaemon();
  victim = await Victim.make(daemon);
});
afterAll(async () => {
  await victim?.[Symbol.asyncDispose]();
  await daemon?.[Symbol.asyncDispose]();
  await updater?.[Symbol.asyncDispose]();
});

function killAtAnyMoment(backend: keyof typeof usual): void {
  const kills = faults(usual[backend]);
  test(`${kills} updates killed: old or new, and nothing else`, { timeout: 120_000 + kills * 30_000 }, async () => {
    const random = dice(`killed updates on ${backend}`);
    const first = updater.start(victimImage, backend, `${backend}-first`, victim.env);
    await first.begun;
    const began = performance.now();
    expect(await first.ended).toMatchObject({ status: 'published' });
    const whole = performance.now() - began;
    expect(await victim.survived(backend, `${backend}-first`, { killed: false })).toBe(true);
    let published = 0;
    for (let round = 0; round < kills; round += 1) {
      const id = `${backend}-${round}`;
      const update = updater.start(victimImage, backend, id, victim.env);
      await update.begun;
      await Promise.race([delay(random.roll(whole * 1.1)), update.ended]); // a moment, not a wait: any one must do
      update.child.kill('SIGKILL');
      const said = await update.ended;
      const isNew = await victim.survived(backend, id, { killed: true });
      if (said?.status === 'published') expect(isNew).toBe(true);
      if (isNew) published += 1;
    }
    process.stderr.write(`killed updates on ${backend}: ${published} of ${kills} had published\n`);
    const last = updater.start(victimImage, backend, `${backend}-last`, victim.env);
    expect(await last.ended).toMatchObject({ status: 'published' });
    expect(await victim.survived(backend, `${backend}-last`, { killed: false })).toBe(true);
  });
}

describeWith('overlay', noOverlay, 'on overlay', () => killAtAnyMoment('overlay'));
describeWith('schroot', noSchroot, 'on schroot', () => killAtAnyMoment('schroot'));
describeWith('docker', noOverlay ?? dockerUnavailable(), 'on docker', () => killAtAnyMoment('docker'));
