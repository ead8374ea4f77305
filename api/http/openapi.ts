import { z } from 'zod';

/** How a caller proves who they are on a route; the words of spec/validator-api.md §2. */
export type RouteAuth = 'none' | 'user' | 'user?' | 'registered' | 'hotkey' | 'launch';

/** A body or answer that is not JSON. */
export interface Media {
  contentType: string;
  description?: string;
  schema?: z.ZodType;
}

export interface RouteDescription {
  method: 'get' | 'post' | 'put' | 'patch' | 'delete';
  /** Express form, `/images/:imageId/logs`; a wildcard `*rest` is shown as `{rest}` */
  path: string;
  summary: string;
  auth: RouteAuth;
  /** the word a hotkey signs instead of the body's hash */
  purpose?: string;
  query?: z.ZodObject;
  body?: z.ZodType | Media;
  response?: z.ZodType | Media;
  /** default 200 */
  status?: number;
}

const described = new Map<string, RouteDescription>();

/** Called beside each route when its module loads: what is mounted is what the document tells. */
export function describeRoute(route: RouteDescription): void {
  described.set(`${route.method} ${route.path}`, route);
}

export const describedRoutes = (): readonly RouteDescription[] => [...described.values()];

const toSchema = (type: z.ZodType, io: 'input' | 'output'): object => {
  const { $schema: _drop, ...schema } = z.toJSONSchema(type, {
    io,
    unrepresentable: 'any',
    override: ({ zodSchema, jsonSchema }) => {
      const kind = zodSchema instanceof z.ZodType ? zodSchema.def.type : undefined;
      if (kind === 'bigint') Object.assign(jsonSchema, { type: 'integer', format: 'int64' });
      if (kind === 'date') Object.assign(jsonSchema, { type: 'string', format: 'date-time' });
    },
  });
  return schema;
};

const content = (of: z.ZodType | Media, io: 'input' | 'output'): object =>
  of instanceof z.ZodType
    ? { 'application/json': { schema: toSchema(of, io) } }
    : {
        [of.contentType]: {
          schema: of.schema
            ? toSchema(of.schema, io)
            : { type: 'string', ...(of.description ? { description: of.description } : {}) },
        },
      };

const SECURITY: Record<RouteAuth, object[]> = {
  none: [],
  user: [{ apiKey: [] }, { hotkey: [], nonce: [], signature: [] }],
  'user?': [{}, { apiKey: [] }, { hotkey: [], nonce: [], signature: [] }],
  registered: [{ hotkey: [], nonce: [], signature: [] }],
  hotkey: [{ hotkey: [], nonce: [], signature: [] }],
  launch: [{ launchToken: [] }],
};

const openapiPath = (path: string): string => path.replace(/[:*]([A-Za-z]+)(\([^)]*\))?/g, '{$1}');

function operation(route: RouteDescription): object {
  const names = [...openapiPath(route.path).matchAll(/\{([^}]+)\}/g)].map((match) => match[1] ?? '');
  const query = route.query
    ? (toSchema(route.query, 'input') as { properties?: Record<string, object>; required?: string[] })
    : {};
  const parameters = [
    ...names.map((name) => ({ name, in: 'path', required: true, schema: { type: 'string' } })),
    ...Object.entries(query.properties ?? {}).map(([name, schema]) => ({
      name,
      in: 'query',
      required: query.required?.includes(name) ?? false,
      schema,
    })),
  ];
  const error = { content: { 'application/json': { schema: { $ref: '#/components/schemas/Error' } } } };
  return {
    summary: route.summary,
    tags: [openapiPath(route.path).split('/')[1] || 'root'],
    ...(route.purpose ? { description: `A hotkey signs the purpose \`${route.purpose}\`.` } : {}),
    security: SECURITY[route.auth],
    ...(parameters.length > 0 ? { parameters } : {}),
    ...(route.body ? { requestBody: { required: true, content: content(route.body, 'input') } } : {}),
    responses: {
      [String(route.status ?? 200)]: {
        description: 'success',
        ...(route.response ? { content: content(route.response, 'output') } : {}),
      },
      ...(route.auth === 'none' ? {} : { 401: { description: 'not authenticated', ...error } }),
      ...(route.body || route.query
        ? {
            422: {
              description: 'the request has bad fields',
              content: { 'application/json': { schema: { $ref: '#/components/schemas/FieldErrors' } } },
            },
          }
        : {}),
    },
  };
}

/** The OpenAPI 3.1 document of every described route. */
export function openapiDocument({ title, version, url }: { title: string; version: string; url: string }): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const route of described.values()) (paths[openapiPath(route.path)] ??= {})[route.method] = operation(route);
  const header = (name: string, description: string) => ({ type: 'apiKey', in: 'header', name, description });
  return {
    openapi: '3.1.0',
    info: { title, version },
    servers: [{ url }],
    paths,
    components: {
      securitySchemes: {
        apiKey: header('Authorization', '`Bearer cpk_…`'),
        hotkey: header('X-Chutes-Hotkey', 'SS58 address of the signer'),
        nonce: header('X-Chutes-Nonce', 'Unix seconds'),
        signature: header(
          'X-Chutes-Signature',
          'sr25519 over `hotkey:nonce:X`, hex; X = purpose of the route or SHA-256 of the raw body',
        ),
        launchToken: header('Authorization', 'launch token of the instance'),
      },
      schemas: {
        Error: { type: 'object', properties: { detail: {} }, required: ['detail'] },
        FieldErrors: {
          type: 'object',
          required: ['detail'],
          properties: {
            detail: {
              type: 'array',
              items: {
                type: 'object',
                required: ['type', 'loc', 'msg'],
                properties: {
                  type: { type: 'string' },
                  loc: { type: 'array', items: { type: ['string', 'integer'] } },
                  msg: { type: 'string' },
                  input: {},
                },
              },
            },
          },
        },
      },
    },
  };
}
