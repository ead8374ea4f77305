import type { RequestHandler } from 'express';

/** Collections are registered with the slash; the slash-less form gets a 307 to it (spec/validator-api.md §0.3). */
export function redirectSlashless(collections: readonly string[]): RequestHandler {
  const slashless = new Set(collections.map((path) => path.replace(/\/+$/, '')).filter(Boolean));
  return (req, res, next) => {
    if (!slashless.has(req.path)) return next();
    const query = req.originalUrl.indexOf('?');
    // Relative to the origin: behind a proxy we do not know our own name.
    res.redirect(307, `${req.path}/${query < 0 ? '' : req.originalUrl.slice(query)}`);
  };
}
