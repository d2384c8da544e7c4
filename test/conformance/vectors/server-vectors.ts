/**
 * What a server answers, as data: the commands of one conversation (sent in one write), the replies after the banner, and
 * the exit status. `stock` says where autopkgtest's own servers do something else, so that the table stays honest: those of 5.28
 * (Debian 12), and those of 5.49 (Debian 13) where `stock549` does not say that they do as ours.
 */

export interface Expected {
  /** One for each reply, in order. */
  readonly replies: readonly RegExp[];
  readonly exit: number;
}

export interface Vector extends Expected {
  readonly name: string;
  readonly send: string | Buffer;
  /** Standard input is closed after the commands; otherwise it is held open. */
  readonly eof?: true;
  /** What 5.28 does instead, or why it cannot be asked. */
  readonly stock?: Expected | string;
  /** 5.49 no longer does what `stock` says. */
  readonly stock549?: 'as ours';
  /**
   * Stock servers answer it in what they have in common, VirtSubproc.py, though a testbed must be open first: the run on
   * stock null shows it for all of them.
   */
  readonly common?: true;
  /** Only for servers that have `revert`. */
  readonly needs?: 'revert' | 'no-revert' | 'reboot' | 'no-reboot' | 'no-golden';
}

const ok = /^ok$/;
const scratch = /^ok \/\S+$/;
const caps = /^ok( \S+)*$/;
const fatal = { exit: 12 } as const;
const endOfInput = { eof: true, exit: 12, stock: 'it spins for ever', stock549: 'as ours' } as const;

export const serverVectors: readonly Vector[] = [
  { name: 'quit while closed has no reply', send: 'quit\n', replies: [], exit: 0 },
  { name: 'capabilities while closed', send: 'capabilities\nquit\n', replies: [/^ok(?!.*downtmp-host)/], exit: 0 },
  {
    name: 'capabilities are the same each time',
    send: 'capabilities\ncapabilities\ncapabilities\nquit\n',
    replies: [/^ok(?! ok)/, /^ok(?! ok)/, /^ok(?! ok)/],
    exit: 0,
    stock: { replies: [/^ok(?! ok)/, /^ok ok/, /^ok ok ok/], exit: 0 },
  },
  { name: 'open', send: 'open\nquit\n', replies: [scratch], exit: 0 },
  { name: 'open twice', send: 'open\nopen\n', replies: [scratch], ...fatal, common: true },
  { name: 'open, close', send: 'open\nclose\nquit\n', replies: [scratch, ok], exit: 0 },
  { name: 'close while closed', send: 'close\n', replies: [], ...fatal },
  { name: 'close twice', send: 'open\nclose\nclose\n', replies: [scratch, ok], ...fatal, common: true },
  { name: 'quit with an argument', send: 'quit x\n', replies: [], ...fatal },
  { name: 'open with an argument', send: 'open x\n', replies: [], ...fatal },
  { name: 'close with an argument', send: 'open\nclose x\n', replies: [scratch], ...fatal, common: true },
  { name: 'unknown verb', send: 'frobnicate\n', replies: [], ...fatal },
  { name: 'verbs are case sensitive', send: 'Open\n', replies: [], ...fatal },
  { name: 'the verb may be encoded', send: 'op%65n\nquit\n', replies: [scratch], exit: 0, common: true },
  { name: 'a lone percent sign', send: '%\n', replies: [], ...fatal },
  { name: 'bytes that are no UTF-8', send: Buffer.from('capabilit\xffies\n', 'latin1'), replies: [], ...fatal },
  { name: 'blanks around', send: '  capabilities  \nquit\n', replies: [caps], exit: 0 },
  { name: 'CRLF', send: 'capabilities\r\nquit\r\n', replies: [caps], exit: 0 },
  {
    name: 'an empty line',
    send: '\ncapabilities\nquit\n',
    replies: [],
    exit: 12,
    stock: { replies: [caps], exit: 0 },
    stock549: 'as ours',
  },
  {
    name: 'underscores for hyphens',
    send: 'open\nprint_execute_command\nquit\n',
    replies: [scratch, /^ok \S+$/],
    exit: 0,
    common: true,
  },
  { name: 'print-execute-command while closed', send: 'print-execute-command\n', replies: [], ...fatal },
  {
    name: 'print-execute-command begins with an absolute path',
    send: 'open\nprint-execute-command\nquit\n',
    replies: [scratch, /^ok \/[^,\s]+(,\S*)?$/],
    exit: 0,
    stock: { replies: [scratch, /^ok \S+$/], exit: 0 },
  },
  { name: 'revert while closed', send: 'revert\n', replies: [], ...fatal },
  { name: 'revert that is not announced', send: 'open\nrevert\n', replies: [scratch], ...fatal, needs: 'no-revert' },
  { name: 'revert', send: 'open\nrevert\nquit\n', replies: [scratch, scratch], exit: 0, needs: 'revert' },
  {
    name: 'reboot that is not announced',
    send: 'open\nreboot\n',
    replies: [scratch],
    ...fatal,
    needs: 'no-reboot',
  },
  { name: 'reboot', send: 'open\nreboot\nquit\n', replies: [scratch, /^ok$/], exit: 0, needs: 'reboot' },
  { name: 'reboot with two arguments', send: 'open\nreboot a b\n', replies: [scratch], ...fatal, common: true },
  { name: 'copydown with one argument', send: 'open\ncopydown /a\n', replies: [scratch], ...fatal, common: true },
  { name: 'copydown with three', send: 'open\ncopydown /a /b /c\n', replies: [scratch], ...fatal, common: true },
  { name: 'copyup while closed', send: 'copyup /a /b\n', replies: [], ...fatal },
  { name: 'a file onto a directory', send: 'open\ncopydown /a /b/\n', replies: [scratch], ...fatal, common: true },
  {
    name: 'a copy that fails leaves the session usable',
    send: 'open\ncopyup /no/such/file /tmp/goldbed-vector\ncapabilities\nquit\n',
    replies: [scratch, /^copy-failed$/, caps],
    exit: 0,
    stock: { replies: [scratch], exit: 12 },
  },
  {
    name: 'auxverb_debug_fail, closed and open',
    send: 'auxverb_debug_fail\nopen\nauxverb_debug_fail\nquit\n',
    replies: [ok, scratch, ok],
    exit: 0,
    common: true,
  },
  { name: 'auxverb_debug_fail with an argument', send: 'auxverb_debug_fail x\n', replies: [], ...fatal },
  { name: 'shell without an argument', send: 'open\nshell\n', replies: [scratch], ...fatal, common: true },
  { name: 'shell while closed', send: 'shell /\n', replies: [], ...fatal },
  { name: 'shell without a terminal', send: 'open\nshell /\nquit\n', replies: [scratch, ok], exit: 0 },
  {
    name: 'five commands in one write',
    send: 'capabilities\nopen\ncapabilities\nprint-execute-command\nclose\nquit\n',
    replies: [caps, scratch, caps, /^ok \S+$/, ok],
    exit: 0,
    common: true,
  },
  { name: 'end of input while closed', send: '', replies: [], ...endOfInput },
  { name: 'end of input while open', send: 'open\n', replies: [scratch], ...endOfInput },
  { name: 'a last line without newline', send: 'capabilities', replies: [caps], ...endOfInput },
  { name: 'commit-golden while closed', send: 'commit-golden\n', replies: [], ...fatal },
  {
    name: 'commit-golden after a plain open',
    send: 'open\ncommit-golden\n',
    replies: [scratch],
    ...fatal,
    common: true,
  },
  { name: 'open-golden where it is not announced', send: 'open-golden\n', replies: [], ...fatal, needs: 'no-golden' },
  { name: 'open-golden with an argument', send: 'open-golden x\n', replies: [], ...fatal },
];
