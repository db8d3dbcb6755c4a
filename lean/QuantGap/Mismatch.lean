import Mathlib.Algebra.BigOperators.Fin
import Mathlib.Algebra.Order.BigOperators.Group.Finset
import Mathlib.Analysis.SpecialFunctions.Log.Basic
import Mathlib.Tactic.Linarith
import Mathlib.Tactic.Positivity
import QuantGap.Tactic

/-!
# Mismatch: the Donsker-Varadhan inequality on finite alphabets

In nats.
-/

namespace QuantGap

/-- KL divergence of `p` from `q` [CoverThomas2006]. -/
noncomputable def relativeEntropy (n : ℕ) (p q : Fin n → ℝ) : ℝ :=
  ∑ i : Fin n, p i * Real.log (p i / q i)

/-- Mean of `exp f` under `q`. -/
noncomputable def exponentialMean (n : ℕ) (q f : Fin n → ℝ) : ℝ :=
  ∑ i : Fin n, q i * Real.exp (f i)

/-- One term of the inequality. -/
theorem variational_term (P Q f Z : ℝ) (hP : 0 ≤ P) (hQ : 0 < Q) (hZ : 0 < Z) :
    P * f - P * Real.log Z ≤ P * Real.log (P / Q) - P + Q * Real.exp f / Z := by
  have hE := Real.exp_pos f
  rcases hP.eq_or_lt with h0 | hpos
  · have hnn : 0 ≤ Q * Real.exp f / Z := by positivity
    rw [← h0]
    linarith
  · have hz : 0 < Q * Real.exp f / (Z * P) := by positivity
    have hle := Real.log_le_sub_one_of_pos hz
    have hlog : Real.log (Q * Real.exp f / (Z * P)) = Real.log Q + f - (Real.log Z + Real.log P) := by
      rw [Real.log_div (by positivity) (by positivity), Real.log_mul hQ.ne' hE.ne', Real.log_exp,
        Real.log_mul hZ.ne' hpos.ne']
    have hdiv := Real.log_div hpos.ne' hQ.ne'
    have key : f - Real.log Z ≤ Real.log (P / Q) - 1 + Q * Real.exp f / (Z * P) := by
      rw [hdiv]
      linarith
    have hmul := mul_le_mul_of_nonneg_left key hpos.le
    have e1 : P * (Real.log (P / Q) - 1 + Q * Real.exp f / (Z * P))
        = P * Real.log (P / Q) - P + Q * Real.exp f / Z := by
      generalize Real.log (P / Q) = l at *
      generalize Real.exp f = E at *
      field_ring
    have e2 : P * (f - Real.log Z) = P * f - P * Real.log Z := by ring
    rw [e1, e2] at hmul
    exact hmul

/-- Donsker-Varadhan: `E_p f <= KL(p || q) + ln E_q exp f` [DonskerVaradhan1983]. -/
theorem donsker_varadhan (n : ℕ) (p q f : Fin n → ℝ) (hp : ∀ i : Fin n, 0 ≤ p i) (hp1 : ∑ i : Fin n, p i = 1)
    (hq : ∀ i : Fin n, 0 < q i) :
    ∑ i : Fin n, p i * f i ≤ relativeEntropy n p q + Real.log (exponentialMean n q f) := by
  have hne : (Finset.univ : Finset (Fin n)).Nonempty := by
    by_contra h
    rw [Finset.not_nonempty_iff_eq_empty] at h
    rw [h, Finset.sum_empty] at hp1
    exact zero_ne_one hp1
  have hZ : 0 < exponentialMean n q f := by
    unfold exponentialMean
    exact Finset.sum_pos (fun k _ => mul_pos (hq k) (Real.exp_pos _)) hne
  have hsum := Finset.sum_le_sum (fun (i : Fin n) (_ : i ∈ Finset.univ) =>
    variational_term (p i) (q i) (f i) (exponentialMean n q f) (hp i) (hq i) hZ)
  simp only [Finset.sum_sub_distrib, Finset.sum_add_distrib] at hsum
  rw [← Finset.sum_mul, ← Finset.sum_div, hp1] at hsum
  have hone : (∑ i : Fin n, q i * Real.exp (f i)) / exponentialMean n q f = 1 := div_self hZ.ne'
  rw [hone] at hsum
  unfold relativeEntropy
  linarith

/-- The divergence is nonnegative. -/
theorem relativeEntropy_nonneg (n : ℕ) (p q : Fin n → ℝ) (hp : ∀ i : Fin n, 0 ≤ p i)
    (hp1 : ∑ i : Fin n, p i = 1) (hq : ∀ i : Fin n, 0 < q i) (hq1 : ∑ i : Fin n, q i = 1) :
    0 ≤ relativeEntropy n p q := by
  have h := donsker_varadhan n p q (fun _ => 0) hp hp1 hq
  have e : exponentialMean n q (fun _ => 0) = 1 := by
    unfold exponentialMean
    simp only [Real.exp_zero, mul_one, hq1]
  rw [e, Real.log_one] at h
  simp only [mul_zero, Finset.sum_const_zero] at h
  linarith

/-- Mean error of a code made for `q`, on the source `p`: `E_p d <= (KL(p || q) + ln E_q exp (t d)) / t`. -/
theorem mismatch_bound (n : ℕ) (p q d : Fin n → ℝ) (t : ℝ) (ht : 0 < t) (hp : ∀ i : Fin n, 0 ≤ p i)
    (hp1 : ∑ i : Fin n, p i = 1) (hq : ∀ i : Fin n, 0 < q i) :
    ∑ i : Fin n, p i * d i
      ≤ (relativeEntropy n p q + Real.log (∑ i : Fin n, q i * Real.exp (t * d i))) / t := by
  have h := donsker_varadhan n p q (fun i => t * d i) hp hp1 hq
  have e : ∑ i : Fin n, p i * (t * d i) = (∑ i : Fin n, p i * d i) * t := by
    rw [Finset.sum_mul]
    exact Finset.sum_congr rfl (fun i _ => by ring)
  unfold exponentialMean at h
  rw [le_div_iff₀ ht, ← e]
  exact h

end QuantGap
