import Mathlib.Algebra.BigOperators.Fin
import Mathlib.Algebra.Order.BigOperators.Group.Finset
import Mathlib.Algebra.Order.Round
import Mathlib.Analysis.SpecialFunctions.Integrals.Basic
import Mathlib.Tactic.Linarith
import Mathlib.Tactic.Positivity
import QuantGap.Tactic

/-!
# Scalar quantizers: optimality and the error of a uniform step
-/

namespace QuantGap

/-- Uniform quantizer of step `step`: the nearest multiple. -/
noncomputable def uniformQuantize (step x : ℝ) : ℝ :=
  step * round (x / step)

/-- Below the midpoint the lower of two levels is the nearer [Lloyd1982; Max1960]. -/
theorem lower_level_nearer (a b x : ℝ) (hab : a ≤ b) (hx : x ≤ (a + b) / 2) :
    (x - a) ^ 2 ≤ (x - b) ^ 2 := by
  have h : 0 ≤ (b - a) * (a + b - 2 * x) := mul_nonneg (by linarith) (by linarith)
  have e : (x - b) ^ 2 - (x - a) ^ 2 = (b - a) * (a + b - 2 * x) := by ring
  linarith

/-- Above the midpoint the upper of two levels is the nearer [Lloyd1982; Max1960]. -/
theorem upper_level_nearer (a b x : ℝ) (hab : a ≤ b) (hx : (a + b) / 2 ≤ x) :
    (x - b) ^ 2 ≤ (x - a) ^ 2 := by
  have h : 0 ≤ (b - a) * (2 * x - a - b) := mul_nonneg (by linarith) (by linarith)
  have e : (x - a) ^ 2 - (x - b) ^ 2 = (b - a) * (2 * x - a - b) := by ring
  linarith

/-- Nearest levels have the least weighted squared error among all assignments of levels to points. -/
theorem nearest_level_optimal (m : ℕ) (p x near other : Fin m → ℝ) (hp : ∀ k : Fin m, 0 ≤ p k)
    (hnear : ∀ k : Fin m, |x k - near k| ≤ |x k - other k|) :
    ∑ k : Fin m, p k * (x k - near k) ^ 2 ≤ ∑ k : Fin m, p k * (x k - other k) ^ 2 :=
  Finset.sum_le_sum (fun k _ => mul_le_mul_of_nonneg_left (sq_le_sq.mpr (hnear k)) (hp k))

/-- The error about any level is the error about the centroid and the squared distance to it [Lloyd1982]. -/
theorem centroid_decomposition (m : ℕ) (p x : Fin m → ℝ) (c : ℝ) (hp1 : ∑ k : Fin m, p k = 1) :
    ∑ k : Fin m, p k * (x k - c) ^ 2
      = (∑ k : Fin m, p k * x k ^ 2) - (∑ k : Fin m, p k * x k) ^ 2 + ((∑ k : Fin m, p k * x k) - c) ^ 2 := by
  have e : ∑ k : Fin m, p k * (x k - c) ^ 2
      = (∑ k : Fin m, p k * x k ^ 2) - 2 * c * (∑ k : Fin m, p k * x k) + c ^ 2 * ∑ k : Fin m, p k := by
    rw [Finset.mul_sum, Finset.mul_sum, ← Finset.sum_sub_distrib, ← Finset.sum_add_distrib]
    exact Finset.sum_congr rfl (fun k _ => by ring)
  rw [e, hp1]
  ring

/-- A uniform quantizer errs by at most half a step. -/
theorem uniform_error (step x : ℝ) (hstep : 0 < step) :
    |x - uniformQuantize step x| ≤ step / 2 := by
  have h := abs_sub_round (x / step)
  have e : x - uniformQuantize step x = step * (x / step - round (x / step)) := by
    unfold uniformQuantize
    rw [mul_sub, mul_div_cancel₀ x hstep.ne']
  rw [e, abs_mul, abs_of_pos hstep]
  have hmul := mul_le_mul_of_nonneg_left h hstep.le
  linarith

/-- Mean square of the error over a cell of a uniform quantizer: `step^2 / 12`. -/
theorem uniform_mean_square (step : ℝ) (hstep : 0 < step) :
    1 / step * (∫ x in (-(step / 2))..(step / 2), x ^ 2) = step ^ 2 / 12 := by
  have hs : step ≠ 0 := hstep.ne'
  rw [integral_pow]
  push_cast
  field_ring

end QuantGap
