import type { MerklePath } from './messages.ts';

/** What a prover opens for each sample (docs/proof.md "Openings"). Entries are base64 of int8 bytes, paths hex from the leaf up. */

/** Row of a block: `path` leads to the block's root, `root_path` from there to R. */
export type RowOpening = { data: string; path: MerklePath; root_path: MerklePath };

/** `row` is row r of B_i. For i ≥ 2 also the factors: row r of B_{i−1} and row c of B_j. B₀ and B₁ come from the PRG. */
export type FillOpening = { row: RowOpening; left?: RowOpening; right?: RowOpening };

/** One column of x_t: `column_path` leads to the columns' root, `path` from the trace leaf to W. */
export type TraceOpening = { column: string; column_path: MerklePath; path: MerklePath };

/** Leaves t and t + 1, both with column c, and row r of B_{t mod M}. */
export type WalkOpening = { from: TraceOpening; to: TraceOpening; row: RowOpening };
