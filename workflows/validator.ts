/** Bundle entry of the validator's workflows: one line a capability. */
export {};
