import type { StoredKey } from '../../activities/validator/invocations/routing-store.ts';
import type { ChuteIndex } from '../../workflows/domain/routing/resolve-chute.ts';
import {
  isVisible,
  type RoutedChute,
  type RoutedInstance,
  type RoutedUser,
} from '../../workflows/domain/routing/routed.ts';

export type LiveInstance = RoutedInstance & { secret: string };

const NO_QUOTAS: ReadonlyMap<string, number> = new Map();

/** Who may call what and where it runs, in memory. Each table is replaced whole; a request sees one state of it. */
export class RoutingTable implements ChuteIndex {
  #chutes = new Map<string, RoutedChute>();
  #bySlug = new Map<string, RoutedChute>();
  #byName = new Map<string, RoutedChute[]>();
  #instances = new Map<string, LiveInstance[]>();
  #users = new Map<string, RoutedUser>();
  #keys = new Map<string, StoredKey>();
  #quotas: ReadonlyMap<string, ReadonlyMap<string, number>> = new Map();
  #shares: ReadonlySet<string> = new Set();

  setChutes(chutes: readonly RoutedChute[]): void {
    const byName = new Map<string, RoutedChute[]>();
    for (const chute of chutes) byName.set(chute.name, [...(byName.get(chute.name) ?? []), chute]);
    this.#chutes = new Map(chutes.map((chute) => [chute.chuteId, chute]));
    this.#bySlug = new Map(chutes.map((chute) => [chute.slug, chute]));
    this.#byName = byName;
  }
  setInstances(instances: readonly LiveInstance[]): void {
    this.#instances = Map.groupBy(instances, (instance) => instance.chuteId);
  }
  setUsers(users: readonly RoutedUser[]): void {
    this.#users = new Map(users.map((user) => [user.userId, user]));
  }
  setKeys(keys: readonly StoredKey[]): void {
    this.#keys = new Map(keys.map((key) => [key.keyId, key]));
  }
  setQuotas(quotas: ReadonlyMap<string, ReadonlyMap<string, number>>): void {
    this.#quotas = quotas;
  }
  setShares(shares: ReadonlySet<string>): void {
    this.#shares = shares;
  }

  byId = (chuteId: string): RoutedChute | null => this.#chutes.get(chuteId) ?? null;
  byName = (name: string): readonly RoutedChute[] => this.#byName.get(name) ?? [];
  bySlug = (slug: string): RoutedChute | null => this.#bySlug.get(slug) ?? null;
  chutes = (): Iterable<RoutedChute> => this.#chutes.values();
  instancesOf = (chuteId: string): readonly LiveInstance[] => this.#instances.get(chuteId) ?? [];
  instances = (): Iterable<LiveInstance> => [...this.#instances.values()].flat();
  user = (userId: string): RoutedUser | null => this.#users.get(userId) ?? null;
  key = (keyId: string): StoredKey | null => this.#keys.get(keyId) ?? null;
  quotasOf = (userId: string): ReadonlyMap<string, number> => this.#quotas.get(userId) ?? NO_QUOTAS;
  isShared = (chuteId: string, userId: string): boolean => this.#shares.has(`${chuteId}/${userId}`);
  canSee = (chute: RoutedChute, userId: string): boolean => isVisible(chute, userId, this.isShared);
}
