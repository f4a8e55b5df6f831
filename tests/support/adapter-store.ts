// A machine without models, which is on at once, with a store of adapters in a directory of the host whose power can be cut.

import { readFileSync } from 'node:fs';
import { boot, type BootOptions } from '../../boot/index.ts';
import { listedDirectory, memoryFile } from '../../boot/listed-directory.ts';
import type { Machine } from '../../boot/machine.ts';
import { E, isRefusal } from '../../kernel/abi/index.ts';
import { readCpio, writeCpio } from '../../vfs/cpio.ts';
import { PowerDirectory } from './power.ts';

/** A directory of the host whose power can be cut, with names that can be changed. */
export class StoreDirectory extends PowerDirectory {
  override remove(name: string): number {
    if (!this.files.has(name)) return -E.NOENT;
    return this.act(torn => {
      if (!torn) this.files.delete(name);
      return 0;
    });
  }
  override rename(from: string, to: string): number {
    const bytes = this.files.get(from);
    if (bytes === undefined) return -E.NOENT;
    return this.act(torn => {
      if (torn) return 0;
      this.files.set(to, bytes);
      this.files.delete(from);
      return 0;
    });
  }
  override survivor(): StoreDirectory {
    return new StoreDirectory(new Map([...this.files].map(([name, bytes]) => [name, bytes.slice()])));
  }
}

const image = readFileSync('build/boot.cpio');

/** The boot image without models: such a machine is on at once. */
export const bare = (() => {
  const entries = readCpio(image);
  if (isRefusal(entries)) throw new Error(entries.message);
  return writeCpio(
    entries
      .filter(({ name }) => !name.startsWith('models/'))
      .map(({ name, kind, mode, uid, dataAt, bytes }) => {
        const data = name === 'etc/model' ? new Uint8Array(0) : image.subarray(dataAt, dataAt + bytes);
        return { name, kind, mode, owner: uid, data };
      }),
  );
})();

/** A machine with these files in /in and the store in /s. */
export const storeMachine = (
  files: Readonly<Record<string, Uint8Array | string>> = {},
  store = new StoreDirectory(),
  options: Partial<BootOptions> = {},
): Machine =>
  boot({
    image: bare,
    strict: true,
    ...options,
    mounts: [
      { guest: '/s', directory: store },
      {
        guest: '/in',
        directory: listedDirectory(
          'in',
          new Map(Object.entries(files).map(([name, data]) => [name, memoryFile(Buffer.from(data))])),
          true,
        ),
      },
    ],
  });
