/** `goldbed image quarantine`, by the command line: a worker's jobs that ran, and run, on a generation that turned out bad. */
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { overlayBackend } from '../../src/backends/overlay/index.ts';
import { stateAt } from '../../src/config/state.ts';
import { layoutOf } from '../../src/golden/layout.ts';
import { livePins } from '../../src/golden/pins.ts';
import { showRun, waitFor } from '../../src/producer/runs.ts';
import { Fleet, fleetImage, type FleetHost } from './fixtures/fleet.ts';
import { Goldbed, type Ran } from './fixtures/goldbed.ts';
import { publishChange } from './fixtures/publish-change.ts';
import { describeWith } from './fixtures/requirements.ts';

const unavailable = await overlayBackend(stateAt('/nonexistent')).unavailable();
const never = new AbortController().signal;

describeWith('overlay', unavailable, 'quarantine', () => {
  let fleet: Fleet;
  let host: FleetHost;
  let goldbed: Goldbed;
  beforeAll(async () => {
    fleet = await Fleet.make(1);
    host = fleet.hosts[0] as FleetHost;
    goldbed = new Goldbed(host.state.root, { GOLDBED_REDIS_URL: host.proxy.socketPath });
    await publishChange(host.state.root, fleetImage, 'echo bad >/root/stamp');
    host.start();
  });
  afterAll(() => fleet[Symbol.asyncDispose](), 60_000);

  const ok = async (...args: string[]): Promise<Ran> => {
    const ran = await goldbed.run(...args);
    expect(ran.code, ran.stderr).toBe(0);
    return ran;
  };
  const handIn = async (name: string): Promise<string> => {
    const ran = await ok('build', name, '--image', fleetImage, '--tenant', 'kde', '--label', 'night');
    return ran.stdout.trim();
  };
  const runsOn = async (runId: string): Promise<number> => {
    for (;;) {
      const pin = (await livePins(layoutOf(host.state, fleetImage))).find(({ job }) => job === runId);
      if (pin !== undefined) return pin.generation;
      await delay(20);
    }
  };

  test('goes back, lists what ran and what runs on it, and runs both again on the good one', async () => {
    const done = await handIn('done-1');
    expect((await waitFor(fleet.redis, done, never)).outcome?.generation).toMatchObject({ generation: 2 });
    const long = await handIn('long-600000');
    expect(await runsOn(long)).toBe(2);

    const looked = await ok('image', 'quarantine', fleetImage, '2', '--reason', 'libc6 is broken');
    expect(looked.stdout).toMatch(/^fleet@2 is out of use; fleet@1 is current\nRAN ON IT +KIND +WHAT +OUTCOME /);
    expect(looked.stdout).toMatch(new RegExp(`\n${long} +build +long-600000 +running +\\d+ s +-\n`));
    expect(looked.stdout).toMatch(new RegExp(`\n${done} +build +done-1 +successful +\\d+ s +-\n`));
    expect((await showRun(fleet.redis, long)).state).toBe('active');

    const args = ['image', 'quarantine', fleetImage, '2', '--reason', 'libc6 is broken', '--requeue', '--json'];
    expect(JSON.parse((await ok(...args)).stdout)).toMatchObject({
      image: fleetImage,
      quarantined: 2,
      current: 1,
      affected: [long, done],
      running: [long],
      requeued: [`${long}-2`, `${done}-2`],
    });
    expect(await showRun(fleet.redis, long)).toMatchObject({
      state: 'cancelled',
      failure: { message: 'fleet@2 is in quarantine: libc6 is broken' },
    });
    expect(await runsOn(`${long}-2`)).toBe(1);
    const again = await waitFor(fleet.redis, `${done}-2`, never);
    expect(again).toMatchObject({ state: 'completed', labels: ['night'], outcome: { generation: { generation: 1 } } });
    await ok('cancel', `${long}-2`);
    expect((await waitFor(fleet.redis, `${long}-2`, never)).state).toBe('cancelled');
    const shown = await ok('image', 'show', fleetImage);
    expect(shown.stdout).toMatch(/ {2}2 .*quarantined by \S+, \d+ s ago: libc6 is broken/);
  });
});
