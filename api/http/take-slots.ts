/**
 * Places for what holds memory or a line while it lasts: `total` in this process, `perOwner` for one of those who take them.
 * Gives what frees the place, or null when there is none; freeing twice frees once.
 */
export function takeSlots({ total, perOwner }: { total: number; perOwner: number }) {
  const held = new Map<string, number>();
  let all = 0;
  return (owner: string): (() => void) | null => {
    const own = held.get(owner) ?? 0;
    if (all >= total || own >= perOwner) return null;
    all += 1;
    held.set(owner, own + 1);
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      all -= 1;
      const left = (held.get(owner) ?? 0) - 1;
      if (left > 0) held.set(owner, left);
      else held.delete(owner);
    };
  };
}
