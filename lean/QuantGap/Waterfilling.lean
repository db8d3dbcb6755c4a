import Mathlib.Algebra.BigOperators.Fin
import Mathlib.Analysis.SpecialFunctions.Log.Basic
import Mathlib.Tactic.Linarith
import Mathlib.Tactic.Positivity
import QuantGap.Tactic

/-!
# Reverse water-filling
-/

namespace QuantGap

/-- One component: an error below its variance `w` costs at least the tangent at the water level. -/
theorem waterfilling_term (theta w E : ℝ) (htheta : 0 < theta) (hE : 0 < E) (hEw : E ≤ w) :
    theta * (Real.log (w / min theta w) - Real.log (w / E)) ≤ E - min theta w := by
  have hw : 0 < w := lt_of_lt_of_le hE hEw
  rcases le_total theta w with h | h
  · rw [min_eq_left h]
    have hlog := Real.log_le_sub_one_of_pos (div_pos hE htheta)
    rw [Real.log_div hE.ne' htheta.ne'] at hlog
    rw [Real.log_div hw.ne' htheta.ne', Real.log_div hw.ne' hE.ne']
    have hmul := mul_le_mul_of_nonneg_left hlog htheta.le
    have e : theta * (E / theta - 1) = E - theta := by field_ring
    rw [e] at hmul
    linarith
  · rw [min_eq_right h, div_self hw.ne', Real.log_one]
    have hlog := Real.log_le_sub_one_of_pos (div_pos hE hw)
    have hneg : Real.log (E / w) = -Real.log (w / E) := by
      rw [Real.log_div hE.ne' hw.ne', Real.log_div hw.ne' hE.ne']
      ring
    rw [hneg] at hlog
    have hpos : 0 ≤ Real.log (w / E) := by
      rw [Real.log_div hw.ne' hE.ne']
      have hle := Real.log_le_log hE hEw
      linarith
    have h1 := mul_le_mul_of_nonneg_right h hpos
    have h2 := mul_le_mul_of_nonneg_left hlog hw.le
    have e : w * (E / w - 1) = E - w := by field_ring
    rw [e] at h2
    linarith

/-- Reverse water-filling is optimal: errors that take no more rate than `min theta w` are together no smaller
[CoverThomas2006, thm 10.3.3]. -/
theorem reverse_waterfilling_optimal (n : ℕ) (w E : Fin n → ℝ) (theta : ℝ) (_hn : 0 < n) (htheta : 0 < theta)
    (hE : ∀ i : Fin n, 0 < E i) (hEw : ∀ i : Fin n, E i ≤ w i)
    (hrate : ∑ i : Fin n, Real.log (w i / E i) ≤ ∑ i : Fin n, Real.log (w i / min theta (w i))) :
    ∑ i : Fin n, min theta (w i) ≤ ∑ i : Fin n, E i := by
  have hsum := Finset.sum_le_sum (fun (i : Fin n) (_ : i ∈ Finset.univ) =>
    waterfilling_term theta (w i) (E i) htheta (hE i) (hEw i))
  rw [← Finset.mul_sum, Finset.sum_sub_distrib, Finset.sum_sub_distrib] at hsum
  have h : 0 ≤ theta * ((∑ i : Fin n, Real.log (w i / min theta (w i))) - ∑ i : Fin n, Real.log (w i / E i)) :=
    mul_nonneg htheta.le (by linarith)
  linarith

end QuantGap
