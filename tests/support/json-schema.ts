// JSON Schema (2020-12) as far as the published schemas of model signing use it: an independent reading of what a bundle has to be. Unknown keywords
// are an error, so that nothing of a schema is passed over.

type Schema = Readonly<Record<string, unknown>>;

/** The first place of `value` that a schema does not take, or null. `schemas`: all of them, by $id. */
export function schemaError(value: unknown, schema: Schema, schemas: ReadonlyMap<string, Schema>): string | null {
  return new Check(schema, schemas).at(value, schema, '$');
}

const TYPES: Readonly<Record<string, (v: unknown) => boolean>> = {
  object: v => typeof v === 'object' && v !== null && !Array.isArray(v),
  array: v => Array.isArray(v),
  string: v => typeof v === 'string',
  boolean: v => typeof v === 'boolean',
  integer: v => Number.isInteger(v),
  null: v => v === null,
};
const ANNOTATIONS = ['$schema', '$id', '$defs', 'title', 'description', 'then'];

class Check {
  constructor(
    private readonly root: Schema,
    private readonly schemas: ReadonlyMap<string, Schema>,
  ) {}

  at(value: unknown, schema: Schema, place: string): string | null {
    for (const [keyword, asked] of Object.entries(schema)) {
      if (ANNOTATIONS.includes(keyword)) continue;
      const wrong = this.keyword(keyword, asked, value, schema, place);
      if (wrong !== null) return wrong;
    }
    return null;
  }

  private keyword(keyword: string, asked: unknown, value: unknown, schema: Schema, place: string): string | null {
    const unless = (holds: boolean): string | null => (holds ? null : `${place}: ${keyword}`);
    const object = TYPES['object']!(value) ? (value as Schema) : null;
    const list = Array.isArray(value) ? (value as unknown[]) : null;
    switch (keyword) {
      case '$ref':
        return this.reference(asked as string, value, place);
      case 'type':
        return unless([asked].flat().some(type => TYPES[type as string]!(value)));
      case 'const':
        return unless(value === asked);
      case 'enum':
        return unless((asked as unknown[]).includes(value));
      case 'pattern':
        return unless(typeof value !== 'string' || new RegExp(asked as string, 'u').test(value));
      case 'minLength':
        return unless(typeof value !== 'string' || value.length >= (asked as number));
      case 'exclusiveMinimum':
        return unless(typeof value !== 'number' || value > (asked as number));
      case 'required':
        return unless(object === null || (asked as string[]).every(name => Object.hasOwn(object, name)));
      case 'minProperties':
        return unless(object === null || Object.keys(object).length >= (asked as number));
      case 'minItems':
        return unless(list === null || list.length >= (asked as number));
      case 'maxItems':
        return unless(list === null || list.length <= (asked as number));
      case 'properties':
        return this.first(Object.entries(asked as Schema), ([name, sub]) =>
          object === null || !Object.hasOwn(object, name)
            ? null
            : this.at(object[name], sub as Schema, `${place}.${name}`),
        );
      case 'additionalProperties': {
        const named = Object.keys((schema['properties'] ?? {}) as Schema);
        const others = Object.entries(object ?? {}).filter(([name]) => !named.includes(name));
        if (asked === true) return null;
        if (asked === false) return unless(others.length === 0);
        return this.first(others, ([name, v]) => this.at(v, asked as Schema, `${place}.${name}`));
      }
      case 'items':
        return this.first([...(list ?? []).entries()], ([i, v]) => this.at(v, asked as Schema, `${place}[${i}]`));
      case 'anyOf':
        return unless((asked as Schema[]).some(sub => this.at(value, sub, place) === null));
      case 'if':
        return this.at(value, asked as Schema, place) === null ? this.at(value, schema['then'] as Schema, place) : null;
      default:
        throw new Error(`keyword ${keyword}`);
    }
  }

  private first<T>(items: readonly T[], check: (item: T) => string | null): string | null {
    for (const item of items) {
      const wrong = check(item);
      if (wrong !== null) return wrong;
    }
    return null;
  }

  private reference(target: string, value: unknown, place: string): string | null {
    if (!target.startsWith('#/')) {
      const other = this.schemas.get(target)!;
      return new Check(other, this.schemas).at(value, other, place);
    }
    const sub = target
      .slice(2)
      .split('/')
      .reduce<unknown>((at, name) => (at as Schema)[name], this.root);
    return this.at(value, sub as Schema, place);
  }
}
