// The tensors of a well-formed GGUF file, walked in forty lines: an oracle for tests that must not lean on the reader under test.

export interface WalkedTensor {
  readonly name: string;
  readonly type: number;
  readonly ne: readonly number[];
  readonly at: number; // byte offset in the file
}

export function walkGguf(file: Uint8Array): WalkedTensor[] {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  let p = 8;
  const u32 = (): number => view.getUint32((p += 4) - 4, true);
  const u64 = (): number => Number(view.getBigUint64((p += 8) - 8, true));
  const text = (): string => {
    const n = u64();
    return new TextDecoder().decode(file.subarray(p, (p += n)));
  };
  const widths = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];
  const skip = (type: number): void => {
    if (type === 8) text();
    else if (type === 9) {
      const element = u32();
      for (let n = u64(); n > 0; n--) skip(element);
    } else p += widths[type]!;
  };
  const tensors = u64();
  let alignment = 32;
  for (let n = u64(); n > 0; n--) {
    const key = text();
    const type = u32();
    if (key === 'general.alignment') alignment = view.getUint32(p, true);
    skip(type);
  }
  const found: (WalkedTensor & { offset: number })[] = [];
  for (let n = tensors; n > 0; n--) {
    const name = text();
    const ne = Array.from({ length: u32() }, u64);
    found.push({ name, ne, type: u32(), offset: u64(), at: 0 });
  }
  const dataAt = Math.ceil(p / alignment) * alignment;
  return found.map(t => ({ ...t, at: dataAt + t.offset }));
}
