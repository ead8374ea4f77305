/** Bundle entry of a miner's workflows: one line a capability. */
export {};
