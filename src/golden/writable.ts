/** Whether an image can be written by us at all: a store may be a read-only mount, or another user's. */
import { access, constants } from 'node:fs/promises';
import { isReadOnly } from '../exec/durable.ts';
import { messageOf, UnavailableError } from '../protocol/errors.ts';
import { GoldenRefusal } from '../protocol/testbed.ts';
import { layoutOf, type ImageStore } from './layout.ts';

export async function isWritable(store: ImageStore, image: string): Promise<boolean> {
  return access(layoutOf(store, image).root, constants.W_OK).then(
    () => true,
    () => false,
  );
}

/** @throws {UnavailableError} the folder is on a read-only file system, which is told instead of whatever fails first there */
export async function requireWritable(folder: string): Promise<void> {
  await access(folder, constants.W_OK).catch((error: unknown) => {
    if (isReadOnly(error)) throw new UnavailableError(`${folder} is on a read-only file system`, { cause: error });
  });
}

const codes = new Set(['EROFS', 'EACCES', 'EPERM']);

/** The refusal to tell instead of an error that says so; flock(1) says it in words. */
export function unavailableBy(error: unknown): GoldenRefusal | undefined {
  const { code } = error as NodeJS.ErrnoException;
  const message = messageOf(error);
  if (!codes.has(code ?? '') && !/cannot lock .*(Read-only file system|Permission denied)/.test(message))
    return undefined;
  return new GoldenRefusal('golden-unavailable', message, { cause: error });
}
