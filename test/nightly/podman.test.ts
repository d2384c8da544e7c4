/** The docker backend on podman's Docker-compatible socket: the same tables, and nothing left in podman. */
import Docker from 'dockerode';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Goldbed, goldbedWithImage, smallImage, virtProgram } from '../conformance/fixtures/goldbed.ts';
import { podmanUnavailable, startPodmanService, type PodmanService } from '../conformance/fixtures/podman-service.ts';
import { describeWith } from '../conformance/fixtures/requirements.ts';
import { describeGoldenServer } from '../conformance/vectors/describe-golden-server.ts';
import { describeVirtServer, type ServerUnderTest } from '../conformance/vectors/describe-virt-server.ts';

describeWith('podman', podmanUnavailable(), 'docker, on podman', () => {
  let podman: PodmanService;
  let goldbed: Goldbed;
  beforeAll(async () => {
    podman = await startPodmanService();
    goldbed = await goldbedWithImage(smallImage);
  });
  afterAll(() => podman?.[Symbol.asyncDispose]());

  const server = (): ServerUnderTest => ({
    argv: [virtProgram, 'docker', smallImage.name],
    env: {
      GOLDBED_NODE: process.execPath,
      GOLDBED_STATE: goldbed.state,
      GOLDBED_GOLDEN_WAIT: '1',
      GOLDBED_DOCKER_SOCKET: podman.socket,
      GOLDBED_DOCKER_NETWORK: 'host',
    },
    revert: true,
  });

  describeVirtServer('goldbed-virt docker, on podman', server, true);
  describeGoldenServer('goldbed-virt docker, on podman', server);

  test('nothing is left in podman', async () => {
    const filters = { label: ['goldbed.session'] };
    expect(await new Docker({ socketPath: podman.socket }).listContainers({ all: true, filters })).toEqual([]);
  });
});
