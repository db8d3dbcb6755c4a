import Mathlib.Algebra.BigOperators.Fin
import Mathlib.Analysis.MeanInequalities
import Mathlib.Analysis.SpecialFunctions.Log.Basic
import Mathlib.Tactic.Linarith
import Mathlib.Tactic.Positivity
import QuantGap.Tactic

/-!
# Geometry: allocation of bits, quadratic forms, second moments
-/

namespace QuantGap

/-- Gain in bits of reverse water-filling over uniform allocation, all components active [CoverThomas2006]. -/
noncomputable def allocationGain (n : ℕ) (lam : Fin n → ℝ) : ℝ :=
  (Real.log ((∑ i : Fin n, lam i) / (n : ℝ)) - (∑ i : Fin n, Real.log (lam i)) / (n : ℝ)) / (2 * Real.log 2)

/-- Weighted AM-GM. -/
theorem weighted_amgm (n : ℕ) (w z : Fin n → ℝ) (hw : ∀ i : Fin n, 0 ≤ w i) (hw1 : ∑ i : Fin n, w i = 1)
    (hz : ∀ i : Fin n, 0 ≤ z i) :
    ∏ i : Fin n, z i ^ (w i : ℝ) ≤ ∑ i : Fin n, w i * z i :=
  Real.geom_mean_le_arith_mean_weighted Finset.univ w z (fun i _ => hw i) hw1 (fun i _ => hz i)

/-- AM-GM in logarithms: the mean logarithm is at most the logarithm of the mean. -/
theorem mean_log_le_log_mean (n : ℕ) (z : Fin n → ℝ) (hn : 0 < n) (hz : ∀ i : Fin n, 0 < z i) :
    (∑ i : Fin n, Real.log (z i)) / (n : ℝ) ≤ Real.log ((∑ i : Fin n, z i) / (n : ℝ)) := by
  have hn' : 0 < (n : ℝ) := Nat.cast_pos.mpr hn
  haveI : Nonempty (Fin n) := ⟨⟨0, hn⟩⟩
  have hsumpos : 0 < ∑ i : Fin n, z i := Finset.sum_pos (fun i _ => hz i) Finset.univ_nonempty
  have hA : 0 < (∑ i : Fin n, z i) / (n : ℝ) := div_pos hsumpos hn'
  have hterm : ∀ i : Fin n, Real.log (z i)
      ≤ Real.log ((∑ k : Fin n, z k) / (n : ℝ)) + (z i / ((∑ k : Fin n, z k) / (n : ℝ)) - 1) := by
    intro i
    have h := Real.log_le_sub_one_of_pos (div_pos (hz i) hA)
    rw [Real.log_div (hz i).ne' hA.ne'] at h
    linarith
  have hsum := Finset.sum_le_sum (fun (i : Fin n) (_ : i ∈ Finset.univ) => hterm i)
  simp only [Finset.sum_sub_distrib, Finset.sum_add_distrib, Finset.sum_const, Finset.card_univ,
    Fintype.card_fin, nsmul_eq_mul, mul_one] at hsum
  have hdiv : ∑ i : Fin n, z i / ((∑ k : Fin n, z k) / (n : ℝ)) = (n : ℝ) := by
    rw [← Finset.sum_div]
    generalize ∑ i : Fin n, z i = Y at *
    field_ring
  rw [hdiv] at hsum
  rw [div_le_iff₀ hn']
  linarith

/-- The gain of water-filling is nonnegative. -/
theorem allocationGain_nonneg (n : ℕ) (lam : Fin n → ℝ) (hn : 0 < n) (hlam : ∀ i : Fin n, 0 < lam i) :
    0 ≤ allocationGain n lam := by
  have h := mean_log_le_log_mean n lam hn hlam
  have hl := Real.log_pos (show (1 : ℝ) < 2 by norm_num)
  unfold allocationGain
  exact div_nonneg (by linarith) (by linarith)

/-- Water-filling is optimal: at a given sum of log-distortions (a given rate) no allocation has a smaller weighted
error than `n` times the geometric mean of `lam i * D i`, here in logarithms [CoverThomas2006]. -/
theorem waterfilling_optimal (n : ℕ) (lam D : Fin n → ℝ) (hn : 0 < n) (hlam : ∀ i : Fin n, 0 < lam i)
    (hD : ∀ i : Fin n, 0 < D i) :
    (∑ i : Fin n, Real.log (lam i)) / (n : ℝ) + (∑ i : Fin n, Real.log (D i)) / (n : ℝ)
      ≤ Real.log ((∑ i : Fin n, lam i * D i) / (n : ℝ)) := by
  have h : (∑ i : Fin n, Real.log (lam i * D i)) / (n : ℝ)
      ≤ Real.log ((∑ i : Fin n, lam i * D i) / (n : ℝ)) :=
    mean_log_le_log_mean n (fun i => lam i * D i) hn (fun i => mul_pos (hlam i) (hD i))
  have e : ∑ i : Fin n, Real.log (lam i * D i)
      = (∑ i : Fin n, Real.log (lam i)) + ∑ i : Fin n, Real.log (D i) := by
    rw [← Finset.sum_add_distrib]
    exact Finset.sum_congr rfl (fun i _ => Real.log_mul (hlam i).ne' (hD i).ne')
  rw [e, add_div] at h
  exact h

/-- Equality at `D i = theta / lam i`. -/
theorem waterfilling_attained (n : ℕ) (lam : Fin n → ℝ) (theta : ℝ) (hn : 0 < n) (htheta : 0 < theta)
    (hlam : ∀ i : Fin n, 0 < lam i) :
    (∑ i : Fin n, Real.log (lam i)) / (n : ℝ) + (∑ i : Fin n, Real.log (theta / lam i)) / (n : ℝ)
      = Real.log ((∑ i : Fin n, lam i * (theta / lam i)) / (n : ℝ)) := by
  have hn' : (n : ℝ) ≠ 0 := (Nat.cast_pos.mpr hn).ne'
  have e1 : ∑ i : Fin n, lam i * (theta / lam i) = (n : ℝ) * theta := by
    calc ∑ i : Fin n, lam i * (theta / lam i)
        = ∑ _i : Fin n, theta := Finset.sum_congr rfl (fun i _ => mul_div_cancel₀ theta (hlam i).ne')
      _ = (n : ℝ) * theta := by
        rw [Finset.sum_const, Finset.card_univ, Fintype.card_fin, nsmul_eq_mul]
  have e2 : ∑ i : Fin n, Real.log (theta / lam i) = (n : ℝ) * Real.log theta - ∑ i : Fin n, Real.log (lam i) := by
    calc ∑ i : Fin n, Real.log (theta / lam i)
        = ∑ i : Fin n, (Real.log theta - Real.log (lam i)) :=
          Finset.sum_congr rfl (fun i _ => Real.log_div htheta.ne' (hlam i).ne')
      _ = (n : ℝ) * Real.log theta - ∑ i : Fin n, Real.log (lam i) := by
        rw [Finset.sum_sub_distrib, Finset.sum_const, Finset.card_univ, Fintype.card_fin, nsmul_eq_mul]
  have e3 : (n : ℝ) * theta / (n : ℝ) = theta := by field_ring
  rw [e1, e2, e3]
  generalize ∑ i : Fin n, Real.log (lam i) = A
  field_ring

/-- A quadratic form in its eigenbasis is at most its largest eigenvalue times the squared length. -/
theorem quadratic_form_le (n : ℕ) (mu y : Fin n → ℝ) (L : ℝ) (hmu : ∀ i : Fin n, mu i ≤ L) :
    ∑ i : Fin n, mu i * y i ^ 2 ≤ L * ∑ i : Fin n, y i ^ 2 := by
  rw [Finset.mul_sum]
  exact Finset.sum_le_sum (fun i _ => mul_le_mul_of_nonneg_right (hmu i) (sq_nonneg (y i)))

/-- It is at least its smallest eigenvalue times the squared length. -/
theorem quadratic_form_ge (n : ℕ) (mu y : Fin n → ℝ) (L : ℝ) (hmu : ∀ i : Fin n, L ≤ mu i) :
    L * ∑ i : Fin n, y i ^ 2 ≤ ∑ i : Fin n, mu i * y i ^ 2 := by
  rw [Finset.mul_sum]
  exact Finset.sum_le_sum (fun i _ => mul_le_mul_of_nonneg_right (hmu i) (sq_nonneg (y i)))

/-- A second moment is at least the squared mean. -/
theorem sq_mean_le_mean_sq (m : ℕ) (p a : Fin m → ℝ) (hp : ∀ k : Fin m, 0 ≤ p k) (hp1 : ∑ k : Fin m, p k = 1) :
    (∑ k : Fin m, p k * a k) ^ 2 ≤ ∑ k : Fin m, p k * a k ^ 2 := by
  have hnn : 0 ≤ ∑ k : Fin m, p k * (a k - ∑ l : Fin m, p l * a l) ^ 2 :=
    Finset.sum_nonneg (fun k _ => mul_nonneg (hp k) (sq_nonneg _))
  have e : ∑ k : Fin m, p k * (a k - ∑ l : Fin m, p l * a l) ^ 2
      = (∑ k : Fin m, p k * a k ^ 2) - (∑ k : Fin m, p k * a k) ^ 2 := by
    generalize hM : ∑ l : Fin m, p l * a l = M
    calc ∑ k : Fin m, p k * (a k - M) ^ 2
        = ∑ k : Fin m, (p k * a k ^ 2 - 2 * M * (p k * a k) + M ^ 2 * p k) :=
          Finset.sum_congr rfl (fun k _ => by ring)
      _ = (∑ k : Fin m, p k * a k ^ 2) - M ^ 2 := by
          rw [Finset.sum_add_distrib, Finset.sum_sub_distrib, ← Finset.mul_sum, ← Finset.mul_sum, hM, hp1]
          ring
  linarith

/-- Mean of the vectors `x k` with weights `p k`. -/
noncomputable def meanVector (m n : ℕ) (p : Fin m → ℝ) (x : Fin m → Fin n → ℝ) (i : Fin n) : ℝ :=
  ∑ k : Fin m, p k * x k i

/-- Projections on the mean average to its squared length. -/
theorem mean_projection (m n : ℕ) (p : Fin m → ℝ) (x : Fin m → Fin n → ℝ) :
    ∑ k : Fin m, p k * (∑ i : Fin n, x k i * meanVector m n p x i) = ∑ i : Fin n, meanVector m n p x i ^ 2 := by
  simp only [Finset.mul_sum]
  rw [Finset.sum_comm]
  refine Finset.sum_congr rfl (fun i _ => ?_)
  calc ∑ k : Fin m, p k * (x k i * meanVector m n p x i)
      = ∑ k : Fin m, p k * x k i * meanVector m n p x i :=
        Finset.sum_congr rfl (fun k _ => by ring)
    _ = (∑ k : Fin m, p k * x k i) * meanVector m n p x i := by rw [Finset.sum_mul]
    _ = meanVector m n p x i ^ 2 := by
        rw [sq]
        rfl

/-- The form of the second-moment matrix at the mean, at least the fourth power of the mean's length. -/
theorem second_moment_at_mean (m n : ℕ) (p : Fin m → ℝ) (x : Fin m → Fin n → ℝ) (hp : ∀ k : Fin m, 0 ≤ p k)
    (hp1 : ∑ k : Fin m, p k = 1) :
    (∑ i : Fin n, meanVector m n p x i ^ 2) ^ 2
      ≤ ∑ k : Fin m, p k * (∑ i : Fin n, x k i * meanVector m n p x i) ^ 2 := by
  rw [← mean_projection m n p x]
  exact sq_mean_le_mean_sq m p (fun k => ∑ i : Fin n, x k i * meanVector m n p x i) hp hp1

/-- The largest eigenvalue of a second-moment matrix is at least the squared length of the mean. -/
theorem mean_sq_le_eigenvalue (m n : ℕ) (p : Fin m → ℝ) (x : Fin m → Fin n → ℝ) (L : ℝ) (hL : 0 ≤ L)
    (hp : ∀ k : Fin m, 0 ≤ p k) (hp1 : ∑ k : Fin m, p k = 1)
    (hform : ∀ v : Fin n → ℝ, ∑ k : Fin m, p k * (∑ i : Fin n, x k i * v i) ^ 2 ≤ L * ∑ i : Fin n, v i ^ 2) :
    ∑ i : Fin n, meanVector m n p x i ^ 2 ≤ L := by
  have h1 := second_moment_at_mean m n p x hp hp1
  have h2 := hform (meanVector m n p x)
  have hnn : 0 ≤ ∑ i : Fin n, meanVector m n p x i ^ 2 := Finset.sum_nonneg (fun i _ => sq_nonneg _)
  generalize ∑ i : Fin n, meanVector m n p x i ^ 2 = Y at *
  by_contra hlt
  have hY : L < Y := not_le.mp hlt
  have hYpos : 0 < Y := lt_of_le_of_lt hL hY
  have hmul := mul_lt_mul_of_pos_right hY hYpos
  have e : Y ^ 2 = Y * Y := sq Y
  linarith

end QuantGap
