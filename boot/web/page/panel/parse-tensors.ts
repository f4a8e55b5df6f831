// /proc/tensors: what of the loaded model lies where; of /proc/models the file that it is from, and the command that opens a tensor of it as
// files (man fs-gguf).

import { tabbed } from './parse-text.ts';

export interface Tensor {
  readonly name: string;
  /** As the arena keeps it. */
  readonly type: string;
  /** `128x1024`: 1024 rows of 128. */
  readonly shape: string;
  /** In the arena; -1: it streams. */
  readonly at: number;
  readonly bytes: number;
  /** Of `blk.N.…`; -1: of none. */
  readonly layer: number;
}

/** In the order of the arena; those that stream are of the size that the file has. */
export function parseTensors(text: string): Tensor[] {
  return tabbed(text).map(row => {
    const at = Number(row['at']);
    return {
      name: row['name']!,
      type: row[at === 0 ? 'fileType' : 'type']!,
      shape: row['shape']!,
      at: at === 0 ? -1 : at,
      bytes: Number(row[at === 0 ? 'fileBytes' : 'bytes']),
      layer: Number(/^blk\.(\d+)\./.exec(row['name']!)?.[1] ?? -1),
    };
  });
}

/** Of /proc/models, `NAME PATH ARCHITECTURE ctx=…`, the path: names have blanks, and say what they like. */
export function modelFile(text: string): string {
  return /^.* (\/.*) \S+ ctx=\d+ kv=\S+ sha256=/.exec(text)?.[1] ?? '';
}

/** A word of the shell, quoted where it has to be. */
const word = (text: string): string => (/^[\w./%+:-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

/** As fs-gguf writes it in a name. */
function fileCharacter(c: string): string {
  const code = c.charCodeAt(0);
  return c === '/' || c === '%' || code < 32 || code === 127
    ? `%${code.toString(16).toUpperCase().padStart(2, '0')}`
    : c;
}

/** Mounts the model, unless it is, and prints what the tensor's values are like. */
export function openCommand(file: string, tensor: string): string {
  const model = /([^/]+?)(?:\.gguf)?$/.exec(file)?.[1] ?? 'model';
  const at = `/mnt/${model}`;
  const name = [...tensor].map(fileCharacter).join('');
  return `mkdir -p ${word(at)}; [ -d ${word(`${at}/tensors`)} ] || mount -t gguf ${word(file)} ${word(at)}; cat ${word(`${at}/tensors/${name}/stats`)}`;
}
