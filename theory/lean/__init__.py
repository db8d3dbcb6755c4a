"""The Lean statements of `lean/`, read and evaluated: what `theory.crosscheck` is made of."""
