// The template device: turns a conversation into a prompt by a model's chat template, with @huggingface/jinja, outside of the kernel. A
// template comes with a file that nobody has checked. It is interpreted, never run as code; every evaluation is counted, every value measured
// before it is used, so that it ends soon, stays small, and gives the same text or the same fault on every host.

import { Environment, Interpreter } from '@huggingface/jinja';
import { LIMITS, type TemplateDevice, type TemplateFault } from '../kernel/abi/index.ts';
import {
  blocksOf,
  messageOf,
  parseTemplate,
  TemplateError,
  type ParsedTemplate,
  type Statement,
} from './template-source.ts';

type Value = ReturnType<Interpreter['evaluate']>;
type Node = Statement & Readonly<Record<string, unknown>>;

export const templateDevice: TemplateDevice = {
  render(template, variables, seconds): string | TemplateFault {
    let interpreter: BoundedInterpreter | undefined;
    try {
      const scope = globals(seconds);
      for (const [name, value] of Object.entries(variables)) scope.set(name, shallow(value));
      interpreter = new BoundedInterpreter(scope, parseTemplate(template));
      return interpreter.text();
    } catch (error) {
      const line = (error instanceof TemplateError ? error.line : undefined) ?? interpreter?.line ?? 1;
      const message = messageOf(error, 'it does something that cannot be done');
      return { line, message: message.replace(/\s+/g, ' ').slice(0, LIMITS.chatMessageMax) };
    }
  },
};

/** What every template finds beside its variables. */
function globals(seconds: number): Environment {
  const scope = new Environment();
  for (const [name, value] of [
    ['true', true],
    ['false', false],
    ['none', null],
  ] as const) {
    scope.set(name, value);
    scope.set(name[0]!.toUpperCase() + name.slice(1), value);
  }
  scope.set('raise_exception', (message: unknown) => {
    throw new TemplateError(`the template refuses: ${String(message)}`);
  });
  scope.set('range', range);
  scope.set('strftime_now', (format: unknown) => strftime(String(format), new Date(seconds * 1000)));
  return scope;
}

/** Python's range, no longer than a list may be. */
function range(...numbers: readonly unknown[]): number[] {
  if (numbers.length < 1 || numbers.length > 3 || !numbers.every(Number.isSafeInteger))
    throw new TemplateError('range() takes one to three whole numbers');
  const [a, b, step = 1] = numbers as number[];
  const [start, stop] = b === undefined ? [0, a!] : [a!, b];
  if (step === 0) throw new TemplateError('range() with step 0');
  const length = Math.max(0, Math.ceil((stop - start) / step));
  if (length > LIMITS.chatValuesMax) throw new TemplateError(`range() of ${length}, ${LIMITS.chatValuesMax} at most`);
  return Array.from({ length }, (_, i) => start + i * step);
}

const MONTHS = 'January February March April May June July August September October November December'.split(' ');
const DAYS = 'Sunday Monday Tuesday Wednesday Thursday Friday Saturday'.split(' ');

/** C's strftime in the C locale and UTC. */
function strftime(format: string, date: Date): string {
  const two = (n: number): string => String(n).padStart(2, '0');
  const month = MONTHS[date.getUTCMonth()]!;
  const day = DAYS[date.getUTCDay()]!;
  const fields: Readonly<Record<string, string>> = {
    Y: String(date.getUTCFullYear()),
    m: two(date.getUTCMonth() + 1),
    d: two(date.getUTCDate()),
    H: two(date.getUTCHours()),
    M: two(date.getUTCMinutes()),
    S: two(date.getUTCSeconds()),
    B: month,
    b: month.slice(0, 3),
    A: day,
    a: day.slice(0, 3),
    '%': '%',
  };
  return format.replace(/%(.)/g, (whole, letter: string) => fields[letter] ?? whole);
}

/** JSON goes into the interpreter by a function that calls itself for what is inside. */
function shallow(value: unknown, depth = 0): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (depth === LIMITS.chatDepthMax)
    throw new TemplateError(`the conversation is nested more than ${LIMITS.chatDepthMax} deep`);
  for (const inner of Object.values(value)) shallow(inner, depth + 1);
  return value;
}

// ── Values ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const isText = (v: Value): boolean => v.type === 'StringValue';
const textOf = (v: Value): string => v.value as string;

/** What a list, tuple, mapping or namespace holds; null for other values. */
function insideOf(v: Value): Iterable<Value> | null {
  if (Array.isArray(v.value)) return v.value as Value[];
  return v.value instanceof Map ? (v.value as Map<string, Value>).values() : null;
}

/** The size of a value written out: `weight` characters and elements, shared parts counted each time; `depth` of lists in lists. */
interface Size {
  readonly weight: number;
  readonly depth: number;
}

/** A value that has been computed already, in the place of the expression. */
class Held {
  readonly type = 'Held';
  constructor(readonly value: Value) {}
}
const held = (value: Value): Node => new Held(value) as unknown as Node;

const SILENT = ['If', 'For', 'Set', 'Macro', 'Break', 'Continue', 'Comment'];

/**
 * Jinja's interpreter, which calls `evaluate` for every statement and expression; here that is where it is held back. Operations that make more
 * than they were given are looked at before: their operands are computed once and put back in their place.
 */
class BoundedInterpreter extends Interpreter {
  /** Of the statement being evaluated. */
  line = 1;
  private readonly lines = new Map<unknown, number>();
  private readonly sizes = new WeakMap<object, Size>();
  private readonly guarded = new WeakSet<object>();
  private steps = 0;
  private depth = 0;
  private printed = 0;

  constructor(
    scope: Environment,
    private readonly template: ParsedTemplate,
  ) {
    super(scope);
    this.instrument(template.program.body);
  }

  text(): string {
    return textOf(this.run(this.template.program));
  }

  /** Puts a Print around everything in a block that gives text. It keeps its class: jinja looks through macros by it. */
  private instrument(block: Statement[]): void {
    block.forEach((statement, i) => {
      for (const inner of blocksOf(statement)) this.instrument(inner);
      if (!SILENT.includes(statement.type)) {
        const fields = { type: 'Print', expression: statement };
        block[i] = Object.assign(Object.create(Object.getPrototypeOf(statement) as object) as Statement, fields);
      }
      this.lines.set(block[i], this.template.lines.get(statement) ?? this.line);
    });
  }

  override evaluate(statement: Statement | undefined, scope: Environment): Value {
    if (statement === undefined) return super.evaluate(statement, scope);
    if (statement.type === 'Held') return (statement as unknown as Held).value;
    this.line = this.lines.get(statement) ?? this.line;
    this.spend(1);
    if (this.depth === LIMITS.chatCallsMax)
      throw new TemplateError(`it goes more than ${LIMITS.chatCallsMax} calls deep`);
    this.depth++;
    try {
      const value = this.step(statement as Node, scope) ?? super.evaluate(undefined, scope); // the first of none
      this.sizeOf(value);
      return value;
    } finally {
      this.depth--;
    }
  }

  private step(node: Node, scope: Environment): Value {
    const inner = (name: string): Value => this.evaluate(node[name] as Statement, scope);
    switch (node.type) {
      case 'Print':
        return this.print(inner('expression'));
      case 'For':
        return this.loop(node, scope);
      case 'Set': {
        if ((node['assignee'] as Node).type !== 'MemberExpression' || !node['value']) break;
        const value = inner('value');
        if (value.type === 'NamespaceValue') throw new TemplateError('a namespace inside of a namespace');
        return super.evaluate({ ...node, value: held(value) } as Node, scope);
      }
      case 'Macro':
      case 'CallStatement':
        this.spend(this.template.tokens); // its body is searched for names
        break;
      case 'BinaryExpression':
        return this.binary(node, scope);
      case 'MemberExpression': {
        const object = inner('object');
        const member = super.evaluate({ ...node, object: held(object) } as Node, scope);
        if (member.type === 'FunctionValue') this.guardReplace(object);
        return member;
      }
      case 'FilterExpression':
        return this.filter(node, inner('operand'), scope);
      case 'FilterStatement': {
        const block = { type: 'Program', body: node['body'] } as unknown as Node;
        return this.filter({ ...node, type: 'FilterExpression' } as Node, super.evaluate(block, scope), scope);
      }
    }
    return super.evaluate(node, scope);
  }

  private spend(steps: number): void {
    this.steps += steps;
    if (this.steps > LIMITS.chatSteps) throw new TemplateError(`it takes more than ${LIMITS.chatSteps} steps`);
  }

  // ── Sizes ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Measures a value; throws when it is more than a template may hold. A namespace is measured each time: what it holds changes. */
  private sizeOf(v: Value): Size {
    if (isText(v)) {
      const weight = 1 + textOf(v).length;
      if (weight > LIMITS.chatTextBytes)
        throw new TemplateError(`it makes a text of more than ${LIMITS.chatTextBytes} characters`);
      return { weight, depth: 0 };
    }
    const known = this.sizes.get(v);
    if (known !== undefined) return known;
    const inside = insideOf(v);
    if (inside === null) return { weight: 8, depth: 0 };
    let weight = 2;
    let depth = 0;
    for (const value of inside) {
      if (value.type === 'NamespaceValue' || value.type === 'FunctionValue')
        throw new TemplateError('a list or mapping holds data only');
      const size = this.sizeOf(value);
      weight += size.weight + 2;
      depth = Math.max(depth, size.depth + 1);
      if (weight > LIMITS.chatValuesMax)
        throw new TemplateError(`it makes a value of more than ${LIMITS.chatValuesMax} parts`);
      if (depth > LIMITS.chatDepthMax)
        throw new TemplateError(`it makes a value nested more than ${LIMITS.chatDepthMax} deep`);
    }
    const keys = v.value instanceof Map ? [...(v.value as Map<string, Value>).keys()] : [];
    const size = { weight: keys.reduce((sum, key) => sum + key.length + 2, weight), depth };
    this.spend(size.weight >> 2);
    if (v.type !== 'NamespaceValue') this.sizes.set(v, size);
    return size;
  }

  /** A value written out. Functions would show their JavaScript. */
  private print(v: Value): Value {
    this.checkData(v);
    if (v.type === 'NullValue' || v.type === 'UndefinedValue') return v;
    this.sizeOf(v);
    const value = v.toString();
    this.printed += value.length;
    if (this.printed > LIMITS.chatPrintedMax)
      throw new TemplateError(`it writes more than ${LIMITS.chatPrintedMax} characters`);
    return super.evaluate({ type: 'StringLiteral', value } as unknown as Statement, this.global);
  }

  private checkData(v: Value): void {
    if (v.type === 'FunctionValue') throw new TemplateError('a function is used as a text');
  }

  // ── Operations that make more than they are given ──────────────────────────────────────────────────────────────────────────────

  /** Loops do some work for each element even when there is nothing in them. */
  private loop(node: Node, scope: Environment): Value {
    const iterable = node['iterable'] as Node;
    const selects = iterable.type === 'SelectExpression';
    const over = this.evaluate((selects ? iterable['lhs'] : iterable) as Statement, scope);
    const elements = insideOf(over);
    if (elements !== null) this.spend(16 * [...elements].length);
    const kept = held(over);
    return super.evaluate({ ...node, iterable: selects ? { ...iterable, lhs: kept } : kept } as Node, scope);
  }

  private binary(node: Node, scope: Environment): Value {
    const operator = (node['operator'] as { readonly value: string }).value;
    if (operator === 'and' || operator === 'or') return super.evaluate(node, scope);
    if (operator === '**') throw new TemplateError('** is not computed'); // hosts differ in its last bit
    const left = this.evaluate(node['left'] as Statement, scope);
    const right = this.evaluate(node['right'] as Statement, scope);
    if (operator === '~' || operator === '+') {
      this.checkData(left);
      this.checkData(right);
      this.spend((this.sizeOf(left).weight + this.sizeOf(right).weight) >> 4);
    } else if (isText(left) && isText(right))
      this.spend(Math.ceil((textOf(left).length * textOf(right).length) / 1024));
    return super.evaluate({ ...node, left: held(left), right: held(right) } as Node, scope);
  }

  private filter(node: Node, operand: Value, scope: Environment): Value {
    const filter = node['filter'] as Node;
    const callee = filter.type === 'CallExpression' ? (filter['callee'] as Node) : filter;
    const name = String(callee['value']);
    const size = this.sizeOf(operand);
    this.spend(size.weight >> 4);
    this.guardReplace(operand);
    const given = { ...node, operand: held(operand) };
    if (filter.type !== 'CallExpression' || !['indent', 'join', 'tojson'].includes(name))
      return super.evaluate(given as Node, scope);
    const args = (filter['args'] as Node[]).map(a => this.argument(a, scope));
    const longest = Math.max(0, ...args.map(a => a.size));
    const times = name === 'tojson' ? size.weight * (size.depth + 1) : size.weight;
    if (longest * times > LIMITS.chatPrintedMax) throw new TemplateError(`${name} makes a text that is too long`);
    this.spend((longest * times) >> 4);
    return super.evaluate({ ...given, filter: { ...filter, args: args.map(a => a.node) } } as Node, scope);
  }

  /** An argument with its value in its place, and how much of it may be repeated: a text's length, or a number. */
  private argument(node: Node, scope: Environment): { readonly node: Node; readonly size: number } {
    const field = node.type === 'KeywordArgumentExpression' ? 'value' : /Spread/.test(node.type) ? 'argument' : null;
    const value = this.evaluate(field === null ? node : (node[field] as Statement), scope);
    const key = (node['key'] as Node | undefined)?.['value'];
    if (key === 'sort_keys' && value.__bool__().value) throw new TemplateError('sort_keys is not computed'); // by the host's language
    const inside = insideOf(value);
    const size = inside === null ? repeats(value) : Math.max(0, ...[...inside].map(repeats));
    return { node: field === null ? held(value) : ({ ...node, [field]: held(value) } as Node), size };
  }

  /** Replacing is counted before it is done; the method of each text is its own. */
  private guardReplace(v: Value): void {
    if (!isText(v)) return;
    const method = v.builtins.get('replace');
    if (method === undefined || this.guarded.has(method)) return;
    this.guarded.add(method);
    type Call = (args: Value[], scope: Environment) => Value;
    const original = method.value as Call;
    (method as { value: unknown }).value = ((args, scope) => {
      const [from, to] = args;
      if (from !== undefined && to !== undefined && isText(from) && isText(to)) {
        const [text, old] = [textOf(v), textOf(from)];
        this.spend(Math.ceil((text.length * (old.length + 17)) / 1024));
        const times = old === '' ? text.length + 1 : text.split(old).length - 1;
        if (text.length + times * textOf(to).length > LIMITS.chatTextBytes)
          throw new TemplateError(`replace makes a text of more than ${LIMITS.chatTextBytes} characters`);
      }
      return original(args, scope);
    }) satisfies Call;
  }
}

const repeats = (v: Value): number =>
  isText(v) ? textOf(v).length : typeof v.value === 'number' ? Math.abs(v.value) : 0;
