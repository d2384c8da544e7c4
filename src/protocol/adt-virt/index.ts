/** `import { serve, Session } from 'goldbed/adt-virt'`: write a virt server, or drive one. */
export { listen, type Tap } from './attach.ts';
export { startChildServer, type ChildServerOptions } from './child-server.ts';
export { startInProcess, type InProcessOptions } from './pair.ts';
export { ProtocolError } from './protocol-error.ts';
export type { ServerOptions } from './served-testbed.ts';
export { ReaderGone, serve, type ServerIo } from './server.ts';
export { CopyError, Session, Unsupported, type SessionOptions } from './session.ts';
export { decodeArgv, decodeWord, encodeArgv, encodeWord } from './words.ts';
export { TestbedError, type TestbedStep } from '../errors.ts';
export {
  GoldenRefusal,
  type Argv,
  type Channel,
  type GoldenRefusalWord,
  type GoldenTestbed,
  type ServerExit,
  type Testbed,
  type TestbedSource,
  type Trait,
} from '../testbed.ts';
