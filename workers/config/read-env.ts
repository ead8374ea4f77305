import { z } from 'zod';

/** Text that is never printed: config objects can be logged whole. */
export class Secret {
  readonly #value: string;
  constructor(value: string) {
    this.#value = value;
  }
  reveal(): string {
    return this.#value;
  }
  toString(): string {
    return '[secret]';
  }
  toJSON(): string {
    return '[secret]';
  }
  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return '[secret]';
  }
}

export const secret = (pattern: RegExp = /.{16,}/) =>
  z
    .string()
    .regex(pattern, { error: 'secret has the wrong form' })
    .transform((value) => new Secret(value));
export const hexSecret = (bytes: number) => secret(new RegExp(`^[0-9a-f]{${bytes * 2}}$`));
export const port = () => z.coerce.number().int().min(0).max(65_535);
export const milliseconds = () => z.coerce.number().int().positive();
export const flag = () => z.enum(['true', 'false']).transform((value) => value === 'true');
export const url = () =>
  z
    .string()
    .regex(/^https?:\/\/[^/]+/, { error: 'must be an http(s) URL' })
    .transform((value) => value.replace(/\/+$/, ''));

/** Parses, defaults, converts, freezes; throws one Error whose message names every bad variable and none of the values. */
export function readEnv<Shape extends z.ZodObject>(schema: Shape, env: NodeJS.ProcessEnv): Readonly<z.output<Shape>> {
  const present = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== ''));
  const result = schema.safeParse(present);
  if (result.success) return Object.freeze(result.data);
  const bad = result.error.issues.map((issue) => {
    const name = issue.path.join('.');
    return present[name] === undefined ? `${name} is missing` : `${name}: ${issue.message}`;
  });
  throw new Error(`Configuration is not usable:\n  ${bad.join('\n  ')}`);
}
