// What lies where an operand points: its type and dimensions, in the words of its record. For people: listings of a plan print them; the
// executor knows by itself. Dimensions are words of the same op (ops.ts), or `t`, the tokens that the op runs over; how far these lie apart, where
// it is further than their values reach, is a word of its own.

import { ggmlTypeName } from '../../kernel/abi/index.ts';
import type { PlanOperand } from '../../kernel/abi/index.ts';
import { Op, TYPE_F32 } from './ops.ts';

/** TYPE: the op's weight type; ACT: activations for products with weights of it. */
type Template = string;

const GET = { dstAt: 'f32[t][k]', weightsAt: 'TYPE[rows][k]' };
const GATHERED = { dstAt: 'f32[t][k]', weightsAt: 'TYPE[t][unitRows][k]' };
const NORM = { dstAt: 'f32[t][n]', srcAt: 'f32[t][n]', weightsAt: 'f32[n]', biasAt: 'f32[n]' };
const TABLE = { tableAt: 'f32[t][pairs][2]', frequenciesAt: 'f32[pairs][2]' };
const ROWS = { dstAt: 'f32[t][n]', srcAt: 'f32[t][n]', upAt: 'f32[t][n]' };

const NORM_JVP = { dstAt: 'f32[t][n]', srcAt: 'f32[t][n]', xAt: 'f32[t][n]', weightsAt: 'f32[n]' };
const GATED_GRADIENT = {
  dstAt: 'f32[t][n]',
  srcAt: 'f32[t][n]',
  upAt: 'f32[t][n]',
  gradAt: 'f32[t][n]',
  upGradAt: 'f32[t][n]',
};
const UPDATE = { dstAt: 'f32[n]', gradAt: 'f32[n]', firstAt: 'f32[n]', secondAt: 'f32[n]', anchorAt: 'f32[n]' };
const STREAM = { dstAt: 'f32[n]', srcAt: 'f32[n]' };

const HEADS_JVP = { at: 'f32[t][heads][headDim]', weightsAt: 'f32[headDim]', xAt: 'f32[t][heads][headDim]' };
const ROTATION = { at: 'f32[t][heads][headDim]', tableAt: 'f32[t][pairs][2]' };
const NORM_BACK = { ...NORM_JVP, weightsGradAt: 'f32[n]', biasGradAt: 'f32[n]' };
const LOSS = { at: 'f32[t][n]', targetsAt: 'u32[t]' };

const SHAPES: Partial<Record<Op, Readonly<Record<string, Template>>>> = {
  [Op.GET_ROWS]: GET,
  [Op.ADD_ROWS]: GET,
  [Op.GET_GATHERED]: GATHERED,
  [Op.ADD_GATHERED]: GATHERED,
  [Op.RMS_NORM]: NORM,
  [Op.LAYER_NORM]: NORM,
  [Op.RMS_NORM_HEADS]: { at: 'f32[t][heads][headDim]', weightsAt: 'f32[headDim]' },
  [Op.QUANTIZE]: { actAt: 'ACT[t][k]', srcAt: 'f32[t][k]' },
  [Op.MUL_MAT]: { dstAt: 'f32[t][rows]', weightsAt: 'TYPE[rows][k]', actAt: 'ACT[t][k]', biasAt: 'f32[rows]' },
  [Op.REPACK]: { dstAt: 'TYPE[rows][k]', weightsAt: 'TYPE[rows][k]' },
  [Op.ROPE_TABLE]: TABLE,
  [Op.ROPE_TABLE_SCALED]: TABLE,
  [Op.ROPE]: ROTATION,
  [Op.KV_STORE]: { srcAt: 'f32[t][n]' },
  [Op.ATTENTION]: { dstAt: 'f32[t][heads][headDim]', qAt: 'f32[t][heads][headDim]' },
  [Op.ADD]: ROWS,
  [Op.SILU_MUL]: ROWS,
  [Op.GELU]: ROWS,
  [Op.GELU_F16]: ROWS,
  [Op.GELU_MUL_F16]: ROWS,
  [Op.SCALE]: { at: 'f32[t][n]' },
  [Op.CHECK]: { at: 'f32[t][n]' },
  [Op.LORA]: {
    dstAt: 'f32[t][rows]',
    aAt: 'f32[rank][k]',
    bAt: 'f32[rows][rank]',
    srcAt: 'f32[t][k]',
    midAt: 'f32[rank]',
  },
  [Op.FLOAT_MUL_MAT]: { dstAt: 'f32[t][rows]', weightsAt: 'TYPE[rows][k]', srcAt: 'f32[t][k]', biasAt: 'f32[rows]' },
  [Op.FLOAT_MUL_MAT_BACK]: { dstAt: 'f32[t][k]', weightsAt: 'TYPE[rows][k]', srcAt: 'f32[t][rows]' },
  [Op.OUTER]: { dstAt: 'f32[rows][k]', srcAt: 'f32[t][rows]', xAt: 'f32[t][k]' },
  [Op.COLUMN_SUM]: { dstAt: 'f32[n]', srcAt: 'f32[t][n]' },
  [Op.RMS_NORM_BACK]: NORM_BACK,
  [Op.LAYER_NORM_BACK]: NORM_BACK,
  [Op.RMS_NORM_HEADS_BACK]: { ...HEADS_JVP, weightsGradAt: 'f32[headDim]' },
  [Op.ROPE_BACK]: ROTATION,
  [Op.CAUSAL_ATTENTION]: { dstAt: 'f32[t][heads][headDim]', qAt: 'f32[t][stride]' },
  [Op.CAUSAL_ATTENTION_BACK]: { dstAt: 'f32[t][stride]', srcAt: 'f32[t][heads][headDim]', qAt: 'f32[t][stride]' },
  [Op.SILU_MUL_BACK]: GATED_GRADIENT,
  [Op.GELU_BACK]: GATED_GRADIENT,
  [Op.GELU_MUL]: ROWS,
  [Op.GELU_MUL_BACK]: GATED_GRADIENT,
  [Op.CROSS_ENTROPY]: LOSS,
  [Op.CROSS_ENTROPY_BACK]: LOSS,
  [Op.CROSS_ENTROPY_JVP]: { ...LOSS, tangentAt: 'f32[t][n]' },
  [Op.ROWS_BACK]: { dstAt: 'f32[rows][k]', srcAt: 'f32[t][k]' },
  [Op.COPY]: ROWS,
  [Op.FILL]: ROWS,
  [Op.RMS_NORM_JVP]: NORM_JVP,
  [Op.LAYER_NORM_JVP]: NORM_JVP,
  [Op.RMS_NORM_HEADS_JVP]: HEADS_JVP,
  [Op.CAUSAL_ATTENTION_JVP]: { dstAt: 'f32[t][heads][headDim]', srcAt: 'f32[t][stride]', qAt: 'f32[t][stride]' },
  [Op.SILU_MUL_JVP]: GATED_GRADIENT,
  [Op.GELU_JVP]: GATED_GRADIENT,
  [Op.GELU_MUL_JVP]: GATED_GRADIENT,
  [Op.SQUARES]: { srcAt: 'f32[n]', anchorAt: 'f32[n]' },
  [Op.ADAM]: UPDATE,
  [Op.SGD]: UPDATE,
  [Op.PERTURB]: STREAM,
  [Op.ACCUMULATE]: STREAM,
  [Op.ECHO]: { dstAt: 'f32[t][n]' },
};

/** Offsets into a page of the KV pool. */
const PLANES: ReadonlySet<string> = new Set(['planeAt', 'kPlaneAt', 'vPlaneAt']);

/** An op does without what this word could point to. */
export const isAbsent = (name: string, value: number): boolean =>
  value === 0 && name.endsWith('At') && !PLANES.has(name);

/** What the word `name` of an op is that holds a number, no address. */
export function kindOf(name: string): PlanOperand['kind'] {
  if (PLANES.has(name)) return 'plane';
  return name.endsWith('Type') ? 'type' : 'integer';
}

/** The shape of what the word `name` of an op points to; `words`: its other words, by name. '' where it is scratch of no shape. */
export function shapeOf(op: Op, name: string, words: (name: string) => number): string {
  const template = SHAPES[op]?.[name] ?? '';
  const [type = '', ...dimensions] = template.replaceAll(']', '').split('[');
  const sizes = dimensions.map(d => (d === 't' || d === '2' ? d : words(d)));
  return `${typeName(type, () => words('weightType'))}${sizes.map(size => `[${size}]`).join('')}`;
}

function typeName(type: string, weights: () => number): string {
  if (type !== 'TYPE' && type !== 'ACT') return type;
  const name = ggmlTypeName(weights()) ?? `type ${weights()}`;
  return type === 'TYPE' || weights() === TYPE_F32 ? name : `activations:${name}`;
}
