import Mathlib.Analysis.SpecialFunctions.Gamma.BohrMollerup
import Mathlib.Data.Fin.VecNotation
import Mathlib.Tactic.Linarith
import Mathlib.Tactic.Positivity

/-!
# Second moments of lattices, and the bounds in every dimension

The lattices of the tables, in order: Z, A2, A3, A3*, D4, D5*, E6, E6*, E7, E7*, E8, K12, BW16. Of the Leech lattice
no exact value is known.
-/

namespace QuantGap

/-- Dimensions of the lattices. -/
def latticeDimension : Fin 13 → ℚ :=
  ![1, 2, 3, 3, 4, 5, 6, 6, 7, 7, 8, 12, 16]

/-- Their normalized second moments are `c / b ^ p`: `c` [ConwaySloane1982]. -/
def latticeCoefficient : Fin 13 → ℚ :=
  ![1 / 12, 5 / 36, 1 / 8, 19 / 192, 13 / 120, 2641 / 23040, 5 / 56, 12619 / 68040, 163 / 2016, 21361 / 161280,
    929 / 12960, 797361941 / 6567561000, 207049815983 / 2143651910400]

/-- And `b`. -/
def latticeBase : Fin 13 → ℚ :=
  ![1, 3, 2, 2, 2, 2, 3, 3, 2, 2, 1, 3, 2]

/-- And `p`. -/
def latticeExponent : Fin 13 → ℚ :=
  ![0, 1 / 2, 2 / 3, 1 / 3, 1 / 2, 3 / 5, 1 / 6, 5 / 6, 1 / 7, 6 / 7, 0, 1 / 2, 1 / 2]

/-- Normalized second moment of a lattice. -/
noncomputable def latticeMoment (i : Fin 13) : ℝ :=
  (latticeCoefficient i : ℝ) / (latticeBase i : ℝ) ^ (latticeExponent i : ℝ)

/-- Normalized second moment of the ball in `n` dimensions [Zador1982]. -/
noncomputable def sphereBound (n : ℝ) : ℝ :=
  Real.Gamma (n / 2 + 1) ^ (2 / n : ℝ) / ((n + 2) * Real.pi)

/-- What random coding attains in `n` dimensions [Zador1982]. -/
noncomputable def zadorUpper (n : ℝ) : ℝ :=
  Real.Gamma (n / 2 + 1) ^ (2 / n : ℝ) * Real.Gamma (1 + 2 / n) / (n * Real.pi)

/-- `1 <= (1 + x) Gamma (1 + x)`, which is `Gamma (2 + x)`. -/
theorem one_le_mul_gamma (x : ℝ) (hx : 0 < x) :
    1 ≤ (1 + x) * Real.Gamma (1 + x) := by
  have h : Real.Gamma 2 ≤ Real.Gamma (1 + x + 1) :=
    Real.Gamma_strictMonoOn_Ici.monotoneOn (Set.mem_Ici.mpr (le_refl 2)) (Set.mem_Ici.mpr (by linarith))
      (by linarith)
  rw [Real.Gamma_two, Real.Gamma_add_one (by linarith)] at h
  exact h

/-- The ball is below what random coding attains [Zador1982]. -/
theorem sphereBound_le_zadorUpper (n : ℝ) (hn : 0 < n) :
    sphereBound n ≤ zadorUpper n := by
  have hp := Real.pi_pos
  have hG := Real.Gamma_pos_of_pos (show 0 < n / 2 + 1 by linarith)
  have hA : 0 < Real.Gamma (n / 2 + 1) ^ (2 / n) := Real.rpow_pos_of_pos hG (2 / n)
  have h := one_le_mul_gamma (2 / n) (div_pos two_pos hn)
  unfold sphereBound zadorUpper
  rw [div_le_div_iff₀ (by positivity) (by positivity)]
  have hmul := mul_le_mul_of_nonneg_left h (mul_pos hA (mul_pos hn hp)).le
  have e : n * (1 + 2 / n) = n + 2 := by
    rw [mul_add, mul_one, mul_div_cancel₀ _ hn.ne']
  calc Real.Gamma (n / 2 + 1) ^ (2 / n) * (n * Real.pi)
      = Real.Gamma (n / 2 + 1) ^ (2 / n) * (n * Real.pi) * 1 := by ring
    _ ≤ Real.Gamma (n / 2 + 1) ^ (2 / n) * (n * Real.pi) * ((1 + 2 / n) * Real.Gamma (1 + 2 / n)) := hmul
    _ = Real.Gamma (n / 2 + 1) ^ (2 / n) * Real.Gamma (1 + 2 / n) * (n * (1 + 2 / n) * Real.pi) := by ring
    _ = Real.Gamma (n / 2 + 1) ^ (2 / n) * Real.Gamma (1 + 2 / n) * ((n + 2) * Real.pi) := by rw [e]

/-- The ball's second moment exceeds its limit [Zador1982]. Statement only. -/
theorem limit_le_sphereBound (n : ℝ) (hn : 0 < n) :
    1 / (2 * Real.pi * Real.exp 1) ≤ sphereBound n := by
  sorry

/-- The interval is the ball in one dimension. -/
theorem sphereBound_one :
    sphereBound 1 = 1 / 12 := by
  have hp := Real.pi_pos
  have hs := Real.sq_sqrt Real.pi_pos.le
  have e2 : (2 / 1 : ℝ) = ((2 : ℕ) : ℝ) := by norm_num
  unfold sphereBound
  rw [Real.Gamma_add_one (by norm_num), Real.Gamma_one_half_eq, e2, Real.rpow_natCast, mul_pow, hs]
  generalize Real.pi = q at *
  field_simp
  norm_num

/-- No lattice has a smaller second moment than the ball, and but for the interval each has a larger one
[Zador1982]. Statement only. -/
theorem sphereBound_le_latticeMoment :
    sphereBound 1 = latticeMoment 0
      ∧ ∀ i : Fin 12, sphereBound (latticeDimension i.succ : ℝ) < latticeMoment i.succ := by
  sorry

end QuantGap
