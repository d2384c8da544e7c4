/** The initial RAM disk of a machine: libexec/qemu-init, the host's perl to run it, modules, and what it writes into /run. */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import path from 'node:path';
import { packageFile } from '../../exec/package-file.ts';
import { check } from '../../exec/run.ts';
import { syscallNumbers } from '../../exec/syscalls.ts';
import { cpio, type CpioEntry } from './cpio.ts';
import { network } from './network.ts';

/** finit_module(2) on amd64; the other numbers are in exec/syscalls.ts. */
const finitModule = 313;

/** Without its agent a machine is of no use, so it ends; whatever else the kernel kills is a command's bad luck. */
const service = `[Unit]
Description=commands from goldbed
FailureAction=poweroff-force

[Service]
OOMPolicy=continue
ExecStart=/usr/bin/perl -f /run/goldbed/agent
TasksMax=infinity
StandardInput=null
StandardOutput=null
StandardError=journal+console
`;

/** Writes it. @param modules in the order in which they are to be loaded */
export async function writeInitrd(file: string, modules: readonly string[], signal: AbortSignal): Promise<void> {
  const own = [
    text('init', await readFile(packageFile('libexec/qemu-init'), 'utf8'), 0o755),
    text('goldbed/agent', await readFile(packageFile('libexec/qemu-agent'), 'utf8'), 0o755),
    text('goldbed/agent.service', service),
    text('goldbed/plan', plan()),
    text('goldbed/etc/hosts', hosts()),
    text('goldbed/etc/resolv.conf', `nameserver ${network.nameserver}\n`),
    // a valid one: so systemd does not take this for the first boot, and writes none into the image
    text('goldbed/etc/machine-id', `${randomBytes(16).toString('hex')}\n`),
  ];
  const copied = [...(await perlFiles(signal)), ...moduleFiles(modules)];
  const files = [...own, ...(await Promise.all(copied.map(fileEntry)))];
  const console: CpioEntry = { type: 'device', path: 'dev/console', major: 5, minor: 1 };
  const folders = [...new Set(['dev', ...files.flatMap(({ path: name }) => foldersOf(name))])];
  const entries = [...folders.map((name): CpioEntry => ({ type: 'folder', path: name })), console, ...files];
  await writeFile(file, cpio(entries));
}

function plan(): string {
  const { address, netmask, gateway } = network;
  const numbers = { mount: syscallNumbers('x64')?.mount, finit_module: finitModule };
  const lines = Object.entries({ ...numbers, address, netmask, gateway });
  return lines.map(([key, value]) => `${key} ${value}\n`).join('');
}

function hosts(): string {
  return `127.0.0.1 localhost\n127.0.1.1 ${hostname()}\n::1 localhost ip6-localhost ip6-loopback\n`;
}

function text(name: string, content: string, mode = 0o644): CpioEntry {
  return { type: 'file', path: name, content: Buffer.from(content), mode };
}

/** A file of the host's, and where it goes. */
type Copied = readonly [file: string, target: string];

async function fileEntry([file, target]: Copied): Promise<CpioEntry> {
  return { type: 'file', path: target, content: await readFile(file), mode: 0o755 };
}

function moduleFiles(modules: readonly string[]): Copied[] {
  return modules.map((file) => [file, `goldbed/modules/${path.basename(file)}`]);
}

/** The host's perl and the libraries that it is linked with, each where the loader looks for it. */
async function perlFiles(signal: AbortSignal): Promise<Copied[]> {
  const perl = '/usr/bin/perl';
  const { stdout } = await check(['/usr/bin/ldd', perl], { signal });
  const libraries = [...stdout.matchAll(/(\/\S+) \(0x/g)].map(([, file = '']) => file).filter(existsSync);
  return [perl, ...libraries].map((file) => [file, file.slice(1)]);
}

function foldersOf(file: string): string[] {
  const parts = file.split('/').slice(0, -1);
  return parts.map((_, i) => parts.slice(0, i + 1).join('/'));
}
