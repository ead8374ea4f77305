/** One permission of an API key; null is any (spec/validator-api.md §1.3). */
export interface KeyScope {
  objectType: string;
  objectId: string | null;
  action: string | null;
}

/**
 * May this key invoke this chute? The chute is the resolved one, also behind an aggregator: the reference checks only
 * the aggregator, so that a key for one chute opens every model.
 */
export function mayInvoke(key: { admin: boolean; scopes: readonly KeyScope[] }, chuteId: string): boolean {
  return (
    key.admin ||
    key.scopes.some(
      (scope) =>
        scope.objectType === 'chutes' &&
        (scope.objectId === null || scope.objectId === chuteId) &&
        (scope.action === null || scope.action === 'invoke'),
    )
  );
}
