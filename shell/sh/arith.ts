// $((…)): integer expressions of 64 bits with the operators of C (POSIX XCU 2.6.4, without ++ and --). Precedence climbing over a token
// list; what && || ?: do not choose is parsed and not evaluated.

/** What an expression may read and assign. */
export interface ArithmeticVariables {
  get(name: string): string | undefined;
  set(name: string, value: string): void;
}

const word = (n: bigint): bigint => BigInt.asIntN(64, n);
const truth = (b: boolean): bigint => (b ? 1n : 0n);

type Operation = (a: bigint, b: bigint) => bigint;
/** Binary operators: how tightly they bind, and what they do. Division is checked before. */
const binary: Readonly<Record<string, readonly [binding: number, operation: Operation]>> = {
  '||': [1, (a, b) => truth(a !== 0n || b !== 0n)],
  '&&': [2, (a, b) => truth(a !== 0n && b !== 0n)],
  '|': [3, (a, b) => a | b],
  '^': [4, (a, b) => a ^ b],
  '&': [5, (a, b) => a & b],
  '==': [6, (a, b) => truth(a === b)],
  '!=': [6, (a, b) => truth(a !== b)],
  '<': [7, (a, b) => truth(a < b)],
  '<=': [7, (a, b) => truth(a <= b)],
  '>': [7, (a, b) => truth(a > b)],
  '>=': [7, (a, b) => truth(a >= b)],
  '<<': [8, (a, b) => a << (b & 63n)],
  '>>': [8, (a, b) => a >> (b & 63n)],
  '+': [9, (a, b) => a + b],
  '-': [9, (a, b) => a - b],
  '*': [10, (a, b) => a * b],
  '/': [10, (a, b) => a / b],
  '%': [10, (a, b) => a % b],
};
const tokenRule =
  /\s*(?:([0-9][0-9A-Za-z]*)|([A-Za-z_][A-Za-z0-9_]*)|(<<=|>>=|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&^|]=|[-+*/%&^|=<>!~?:()]))/y;
/** How deep parentheses and unary operators may be nested. */
const depthMax = 200;

/** The value of an expression, or what is wrong with it; `text` has no `$` any more. */
export function evaluate(text: string, variables: ArithmeticVariables): bigint | string {
  const tokens: string[] = [];
  tokenRule.lastIndex = 0;
  const end = text.trimEnd().length;
  if (end === 0) return 0n;
  for (let at = 0; at < end; at = tokenRule.lastIndex) {
    const m = tokenRule.exec(text);
    if (m === null) return `arithmetic expression: expecting primary: "${text}"`;
    tokens.push(m[1] ?? m[2] ?? m[3]!);
  }
  const expression = new Expression(tokens, text, variables);
  const value = expression.assignment(true);
  if (!expression.atEnd) expression.fail('expecting EOF');
  return expression.fault ?? value;
}

/** A decimal, octal (0…) or hexadecimal (0x…) number, with a sign; null when it is none. */
function parseNumber(text: string): bigint | null {
  const [, sign, digits] = /^\s*([-+]?)(0[xX][0-9A-Fa-f]+|0[0-7]*|[1-9][0-9]*)\s*$/.exec(text) ?? [];
  if (digits === undefined) return null;
  const octal = /^0[0-7]/.test(digits);
  const value = BigInt(octal ? `0o${digits.slice(1)}` : digits);
  const limit = (1n << 63n) - 1n;
  const clamped = value > limit ? limit : value;
  return sign === '-' ? -clamped : clamped;
}

class Expression {
  fault: string | null = null;
  private at = 0;
  private depth = 0;
  private readonly tokens: readonly string[];
  private readonly text: string;
  private readonly variables: ArithmeticVariables;

  constructor(tokens: readonly string[], text: string, variables: ArithmeticVariables) {
    this.tokens = tokens;
    this.text = text;
    this.variables = variables;
  }

  get atEnd(): boolean {
    return this.at === this.tokens.length;
  }

  fail(what: string): bigint {
    this.fault ??= `arithmetic expression: ${what}: "${this.text}"`;
    this.at = this.tokens.length;
    return 0n;
  }

  private take(token: string): boolean {
    if (this.tokens[this.at] !== token) return false;
    this.at++;
    return true;
  }

  /** `live`: the result is wanted, so that assignments and divisions count. */
  assignment(live: boolean): bigint {
    const [name = '', operator = ''] = this.tokens.slice(this.at, this.at + 2);
    if (!/^[A-Za-z_]/.test(name) || !/^(?:[-+*/%&^|]|<<|>>)?=$/.test(operator)) return this.conditional(live);
    this.at += 2;
    const right = this.nest(() => this.assignment(live));
    if (!live || this.fault !== null) return 0n;
    const value = operator === '=' ? right : this.apply(operator.slice(0, -1), this.variable(name), right, live);
    if (this.fault === null) this.variables.set(name, String(value));
    return value;
  }

  private conditional(live: boolean): bigint {
    const condition = this.binary(1, live);
    if (!this.take('?')) return condition;
    const chosen = condition !== 0n;
    const yes = this.nest(() => this.assignment(live && chosen));
    if (!this.take(':')) return this.fail("expecting ':'");
    const no = this.nest(() => this.conditional(live && !chosen));
    return chosen ? yes : no;
  }

  private binary(minimum: number, live: boolean): bigint {
    let left = this.unary(live);
    for (;;) {
      const operator = this.tokens[this.at] ?? '';
      const binding = binary[operator]?.[0];
      if (binding === undefined || binding < minimum) return left;
      this.at++;
      const skipped = (operator === '&&' && left === 0n) || (operator === '||' && left !== 0n);
      const right = this.binary(binding + 1, live && !skipped);
      left = this.apply(operator, left, right, live);
    }
  }

  private apply(operator: string, a: bigint, b: bigint, live: boolean): bigint {
    if ((operator === '/' || operator === '%') && b === 0n) return live ? this.fail('division by zero') : 0n;
    return word(binary[operator]![1](a, b));
  }

  private unary(live: boolean): bigint {
    return this.nest(() => {
      if (this.take('-')) return word(-this.unary(live));
      if (this.take('+')) return this.unary(live);
      if (this.take('!')) return truth(this.unary(live) === 0n);
      if (this.take('~')) return ~this.unary(live);
      return this.primary(live);
    });
  }

  private primary(live: boolean): bigint {
    if (this.take('(')) {
      const value = this.assignment(live);
      return this.take(')') ? value : this.fail("expecting ')'");
    }
    const token = this.tokens[this.at] ?? '';
    if (/^[A-Za-z_]/.test(token)) {
      this.at++;
      return live ? this.variable(token) : 0n;
    }
    const value = parseNumber(token);
    if (value === null) return this.fail('expecting primary');
    this.at++;
    return value;
  }

  private variable(name: string): bigint {
    const text = this.variables.get(name);
    if (text === undefined || text.trim() === '') return 0n;
    const value = parseNumber(text);
    if (value === null) this.fault ??= `Illegal number: ${text}`;
    return value ?? 0n;
  }

  private nest(read: () => bigint): bigint {
    if (this.depth === depthMax) return this.fail('nested too deep');
    this.depth++;
    const value = read();
    this.depth--;
    return value;
  }
}
