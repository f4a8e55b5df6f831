// The files of an audit log in a directory of the host, for the readers that the machine's programs use, and for exports.

import fs from 'node:fs';
import path from 'node:path';
import { refuse, type Refusal } from '../kernel/abi/index.ts';
import { PART, type ExportTarget } from '../shell/lib/audit-export.ts';
import { LOG_FILE_BYTES_MOST, type LogFiles } from '../shell/lib/audit-reader.ts';
import { reason } from './host-directory.ts';

/** Those below `place`. */
export const hostFiles = (place: string): LogFiles => ({
  place,
  *read(name) {
    const file = path.join(place, name);
    try {
      const found = fs.statSync(file);
      if (!found.isFile()) return refuse('INVAL', 0, `${file}: not a regular file`);
      if (found.size > LOG_FILE_BYTES_MOST)
        return refuse('FBIG', 0, `${file}: ${found.size} bytes, at most ${LOG_FILE_BYTES_MOST}`);
      return new Uint8Array(fs.readFileSync(file));
    } catch (error) {
      const missing = ['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '');
      return missing ? null : refuse('IO', 0, `${file}: ${reason(error)}`);
    }
  },
  *paths() {
    try {
      return fs
        .readdirSync(place, { recursive: true, withFileTypes: true })
        .filter(entry => !entry.isDirectory())
        .map(entry => path.relative(place, path.join(entry.parentPath, entry.name)).split(path.sep).join('/'));
    } catch (error) {
      return refuse('IO', 0, `${place}: ${reason(error)}`);
    }
  },
});

/** A directory and those above it that are missing. (`recursive: true` never comes back where the one above takes none, as in /proc.) */
function makeDirectories(directory: string): void {
  if (fs.existsSync(directory)) return;
  makeDirectories(path.dirname(directory));
  fs.mkdirSync(directory);
}

/** A directory to export to; it need not be there yet. */
export const hostTarget = (place: string): ExportTarget => {
  const change = (name: string, make: (file: string) => void): Refusal | null => {
    const file = path.join(place, name);
    try {
      make(file);
      return null;
    } catch (error) {
      return refuse('IO', 0, `${file}: ${reason(error)}`);
    }
  };
  return {
    ...hostFiles(place),
    *put(name, bytes) {
      return change(name, file => {
        makeDirectories(path.dirname(file));
        fs.writeFileSync(file + PART, bytes);
        fs.renameSync(file + PART, file);
      });
    },
    *remove(name) {
      return change(name, file => {
        fs.rmSync(file);
        const folder = path.dirname(file);
        if (fs.readdirSync(folder).length === 0) fs.rmdirSync(folder);
      });
    },
  };
};
