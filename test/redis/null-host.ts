/** A host whose testbeds are this machine itself, and whose client is a script of the test's: whole jobs in milliseconds. */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { nullSource } from '../../src/backends/null.ts';
import { sizesOf } from '../../src/config/sizes.ts';
import type { State } from '../../src/config/state.ts';
import { startInProcess } from '../../src/protocol/adt-virt/pair.ts';
import type { Host } from '../../src/worker/host.ts';

/** Opens the session that it is given and closes it, as sbuild would; then does what the test wants, in Perl. */
export const nullClient = (body: string): string => `#!/usr/bin/perl
use strict;
use warnings;
use IO::Socket::UNIX;
$| = 1;
my ($path) = map { /^--autopkgtest-virt-server-opt=(\\/.*)/ ? $1 : () } @ARGV;
$path //= $ARGV[-1];
my $session = IO::Socket::UNIX->new(Peer => $path) or die "$path: $!";
$session->autoflush(1);
sub expect { my $line = <$session> // die 'the session ended'; $line =~ /^ok/ or die $line }
expect();
for my $verb (qw(open close)) { print {$session} "$verb\\n"; expect() }
print {$session} "quit\\n";
1 while <$session>;
${body}
`;

export const successful = 'print "Status: successful\\n";';

/** @param body Perl: what the client says, and how it ends @param change what differs from a host that is well */
export async function nullHost(
  state: State,
  name: string,
  body = successful,
  change: Partial<Host> = {},
): Promise<Host> {
  const folder = path.join(state.root, name);
  await mkdir(folder, { recursive: true });
  const program = path.join(folder, 'client');
  await writeFile(program, nullClient(body), { mode: 0o755 });
  return {
    name,
    state,
    socketFolder: folder,
    virtProgram: '/nonexistent',
    clients: { sbuild: program, autopkgtest: program },
    sizes: sizesOf(),
    minFreeDisk: 0,
    reap: () => {},
    keepGenerations: () => 3,
    canaryOf: () => undefined,
    makingTools: () => Promise.reject(new Error('makes no images')),
    async openImage(image) {
      return {
        image,
        backend: 'null',
        suite: 'sid',
        arch: 'amd64',
        generation: { image, generation: 7, digest: 'sha256:0' },
        start: async (log, signal) => startInProcess(nullSource(0), { log, signal, copyTimeout: 60 }),
        async [Symbol.asyncDispose]() {},
      };
    },
    ...change,
  };
}
