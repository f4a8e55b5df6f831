// Every format of trust/ once, from fixed inputs, as lines: what Node, Chromium and Firefox must write byte for byte. Nothing of a host is used.

import { isRefusal, utf8Encode } from '../../kernel/abi/index.ts';
import type { Refusal } from '../../kernel/abi/index.ts';
import {
  NOTE_TYPE,
  Tree,
  ageDecrypt,
  ageEncrypt,
  canonical,
  formatCheckpoint,
  formatIdentity,
  formatNoteKey,
  formatProof,
  formatPublicPem,
  formatRecipient,
  formatSecretPem,
  formatStatement,
  joined,
  labelMac,
  leafHash,
  noteSigner,
  openProof,
  parseCanonical,
  parseJson,
  secretKey,
  sha256,
  sign,
  signEnvelope,
  signNote,
  signatureLine,
  tilePath,
  tilesOf,
  toHex,
  verify,
} from '../../trust/index.ts';

function good<T>(value: T | Refusal): T {
  if (isRefusal(value)) throw new Error(value.message);
  return value;
}

/** 32 bytes that look like any. */
const seed = (i: number): Uint8Array => sha256(Uint8Array.of(i));

export function formatsTranscript(): string[] {
  const lines: string[] = [];
  const bytes = (value: Uint8Array | Refusal): void => void lines.push(toHex(good(value)));

  // Numbers with any bits, as text.
  for (let i = 0; i < 64; i++) {
    const view = new DataView(seed(i).buffer);
    const numbers = [0, 8, 16, 24].map(at => view.getFloat64(at)).filter(Number.isFinite);
    bytes(canonical({ numbers, text: String.fromCharCode(i, 0x80 + i, 0xd83d, 0xde00 + i) }));
  }
  for (const text of ['{"b":1,"a":2}', '[1.0]', '"\\ud800"', '{', '[1e999]'])
    for (const read of [parseCanonical, parseJson]) lines.push(JSON.stringify(read(utf8Encode(text))));

  for (const kind of ['ed25519', 'p256', 'p384', 'x25519'] as const)
    for (let i = 0; i < 4; i++) {
      const secret = kind === 'p384' ? joined(new Uint8Array(16), seed(i)) : seed(i);
      const key = good(secretKey(kind, secret));
      lines.push(formatSecretPem(key), formatPublicPem(key.public));
      if (kind === 'x25519') continue;
      const signature = good(sign(key, seed(i + 1)));
      bytes(signature);
      for (let bit = 0; bit < 8; bit++)
        lines.push(
          String(
            verify(
              key.public,
              seed(i + 1),
              signature.map((b, at) => (at === 9 * bit ? b ^ 1 : b)),
            ),
          ),
        );
    }

  const log = good(noteSigner('arena8.invalid/formats', seed(1)));
  const witness = good(noteSigner('witness.invalid', seed(2), NOTE_TYPE.cosignature));
  const tree = new Tree();
  for (let i = 0; i < 300; i++) tree.append(leafHash(seed(i & 255)));
  const head = formatCheckpoint({ origin: log.key.name, size: 300, root: tree.root() });
  const checkpoint = signNote(head, log) + signatureLine(head, witness, 1_700_000_000);
  const proof = formatProof({ index: 77, hashes: good(tree.inclusion(77)), checkpoint });
  lines.push(formatNoteKey(log.key), formatNoteKey(witness.key), proof, ...[...tilesOf(300)].map(tilePath));
  lines.push(JSON.stringify(openProof(utf8Encode(proof), seed(77), log.key, [witness.key])));
  lines.push(JSON.stringify(openProof(utf8Encode(proof), seed(78), log.key)));
  for (const hash of good(tree.consistency(123))) bytes(hash);
  bytes(labelMac(seed(3), 'salt', seed(4)));

  const reader = good(secretKey('x25519', seed(5)));
  lines.push(formatRecipient(reader.public), formatIdentity(reader));
  const file = good(ageEncrypt(new Uint8Array(70_000).fill(1), [reader.public, reader.public], seed(6)));
  bytes(sha256(file));
  bytes(sha256(good(ageDecrypt(file, reader))));

  const subject = [{ name: 'model', digest: { sha256: toHex(seed(7)) } }];
  const statement = good(
    formatStatement({ subject, predicateType: 'https://arena8.invalid/x', predicate: { n: 0.1 } }),
  );
  bytes(signEnvelope('application/vnd.in-toto+json', statement, [{ keyid: 'log', sign: log.sign }]));
  return lines;
}
