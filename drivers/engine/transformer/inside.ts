// How a plan of the transformer is taken apart while it runs: where the residual stream lies, which op of a layer is its attention, and what to
// change there to see the weights of one head. The op computes one head after the other and keeps the weights of the last one only, so the
// head looked for takes that one's place: it gets its queries, and its keys begin where those of the head looked for do.

import {
  GGML_BLOCK,
  GGML_TYPE,
  ggmlTypeName,
  type ArenaView,
  type Inside,
  type PlanRow,
} from '../../../kernel/abi/index.ts';
import { Attention, Op, OP_BYTES } from '../ops.ts';

/** Weights over a cache of halves stand there 2¹¹¹ times as large: as partners of halves, f16_partner in simd/blocks.ts. */
const PARTNER = 2 ** 111;

/** Of a plan whose body, `rows`, begins at `bodyAt` and does not stream. */
export function insideOf(arena: ArenaView, bodyAt: number, rows: readonly PlanRow[], residualAt: number): Inside {
  const ops = rows.filter(row => row.segment === 'body').map((row, i) => ({ ...row, at: bodyAt + i * OP_BYTES }));
  const name = Op[Op.ATTENTION];
  const attention = ops.filter(({ op }) => op === name);
  const weighingAt = (layer: number): number => attention[layer]!.at;
  return { residualAt, weighingAt, focus: (layer, head) => focus(arena, weighingAt(layer), head) };
}

/** Heads that come before the last now read keys that are not theirs, some of them from before the plane: bytes of the arena all the same. */
function focus({ i32, f32 }: ArenaView, opAt: number, head: number): ReturnType<Inside['focus']> {
  const op = opAt >> 2;
  const get = (word: Attention): number => i32[op + word]!;
  const [heads, headsKv, headDim] = [get(Attention.heads), get(Attention.headsKv), get(Attention.headDim)];
  const kvType = get(Attention.kvType);
  const [values, bytes] = GGML_BLOCK[ggmlTypeName(kvType)!];
  const queries = get(Attention.qAt) >> 2;
  f32.copyWithin(queries + (heads - 1) * headDim, queries + head * headDim, queries + (head + 1) * headDim);
  const back = headsKv - 1 - Math.floor(head / (heads / headsKv)); // heads of keys
  i32[op + Attention.kPlaneAt] = get(Attention.kPlaneAt) - back * (headDim / values) * bytes;
  return { weightsAt: get(Attention.scoresAt), times: kvType === GGML_TYPE.F16 ? PARTNER : 1 };
}
