/** Who owns which partition, by what workers say of themselves: under several claims the highest epoch. */
export interface Claims {
  id: string;
  owned: Iterable<readonly [partition: number, epoch: number]>;
}

export function ownersOf(workers: Iterable<Claims>): Map<number, string> {
  const owners = new Map<number, string>();
  const epochs = new Map<number, number>();
  for (const { id, owned } of workers) {
    for (const [partition, epoch] of owned) {
      if (epoch < (epochs.get(partition) ?? 0)) continue;
      owners.set(partition, id);
      epochs.set(partition, epoch);
    }
  }
  return owners;
}
