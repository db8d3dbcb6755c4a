import Mathlib.Algebra.BigOperators.Fin
import Mathlib.Analysis.Convex.Jensen
import Mathlib.Analysis.MeanInequalitiesPow
import Mathlib.Analysis.SpecialFunctions.Integrals.Basic
import Mathlib.Order.ConditionallyCompleteLattice.Finset
import Mathlib.Tactic.Linarith
import Mathlib.Tactic.Positivity
import QuantGap.Tactic

/-!
# Block scaling

A block `x` of `n` weights with scale `S`; `Q` maps `x / S` to a level; `delta` is the largest gap between levels.
The finite-sample statements average over blocks `k` with weights `p k`: over an empirical law, or over the support
of a finite one.
-/

namespace QuantGap

/-- Largest magnitude of a block. -/
noncomputable def absmax (n : ℕ) (x : Fin n → ℝ) : ℝ :=
  ⨆ i : Fin n, |x i|

/-- Moment bound on the mean of the block maximum, from `M = E|X|^q`. -/
noncomputable def momentBound (n : ℕ) (q M : ℝ) : ℝ :=
  ((n : ℝ) * M) ^ (1 / q : ℝ)

/-- Bits per weight with the scales counted. -/
noncomputable def effectiveBits (bits : ℝ) (n : ℕ) (scaleBits : ℝ) : ℝ :=
  bits + scaleBits / (n : ℝ)

/-- Error of a weight whose ratio to the scale is within `delta / 2` of its level. -/
theorem block_error (x S l delta : ℝ) (hS : 0 < S) (hl : |x / S - l| ≤ delta / 2) :
    |x - S * l| ≤ S * (delta / 2) := by
  have e : x - S * l = S * (x / S - l) := by
    rw [mul_sub, mul_div_cancel₀ x hS.ne']
  rw [e, abs_mul, abs_of_pos hS]
  exact mul_le_mul_of_nonneg_left hl hS.le

/-- The same, squared. -/
theorem block_error_sq (x S l delta : ℝ) (hS : 0 < S) (hl : |x / S - l| ≤ delta / 2) :
    (x - S * l) ^ 2 ≤ S ^ 2 * (delta ^ 2 / 4) := by
  have h := block_error x S l delta hS hl
  have hsq := pow_le_pow_left₀ (abs_nonneg (x - S * l)) h 2
  rw [sq_abs] at hsq
  have e : (S * (delta / 2)) ^ 2 = S ^ 2 * (delta ^ 2 / 4) := by ring
  rw [e] at hsq
  exact hsq

/-- Mean squared error over a block. -/
theorem block_mean_square (n : ℕ) (x l : Fin n → ℝ) (S delta : ℝ) (hn : 0 < n) (hS : 0 < S)
    (hl : ∀ i : Fin n, |x i / S - l i| ≤ delta / 2) :
    (∑ i : Fin n, (x i - S * l i) ^ 2) / (n : ℝ) ≤ S ^ 2 * (delta ^ 2 / 4) := by
  have hn' : 0 < (n : ℝ) := Nat.cast_pos.mpr hn
  have hsum : ∑ i : Fin n, (x i - S * l i) ^ 2 ≤ ∑ _i : Fin n, S ^ 2 * (delta ^ 2 / 4) :=
    Finset.sum_le_sum (fun i _ => block_error_sq (x i) S (l i) delta hS (hl i))
  rw [Finset.sum_const, Finset.card_univ, Fintype.card_fin, nsmul_eq_mul] at hsum
  rw [div_le_iff₀ hn']
  linarith

/-- Mean squared error over blocks: at most `E S^2 delta^2 / 4`. -/
theorem blocks_mean_square (m n : ℕ) (p S : Fin m → ℝ) (x l : Fin m → Fin n → ℝ) (delta : ℝ) (hn : 0 < n)
    (hp : ∀ k : Fin m, 0 ≤ p k) (hS : ∀ k : Fin m, 0 < S k)
    (hl : ∀ k : Fin m, ∀ i : Fin n, |x k i / S k - l k i| ≤ delta / 2) :
    ∑ k : Fin m, p k * ((∑ i : Fin n, (x k i - S k * l k i) ^ 2) / (n : ℝ))
      ≤ (∑ k : Fin m, p k * S k ^ 2) * (delta ^ 2 / 4) := by
  rw [Finset.sum_mul]
  refine Finset.sum_le_sum (fun k _ => ?_)
  have h := block_mean_square n (x k) (l k) (S k) delta hn (hS k) (hl k)
  have hmul := mul_le_mul_of_nonneg_left h (hp k)
  linarith

/-- The largest element is reproduced exactly by a quantizer that keeps -1 and 1. -/
theorem largest_reproduced (Q : ℝ → ℝ) (x S : ℝ) (hS : 0 < S) (hx : |x| = S) (hone : Q 1 = 1)
    (hneg : Q (-1) = -1) :
    S * Q (x / S) = x := by
  rcases abs_choice x with h | h
  · have hxS : x = S := by rw [← hx, h]
    rw [hxS, div_self hS.ne', hone, mul_one]
  · have hxS : x = -S := by
      rw [← hx, h]
      ring
    rw [hxS, neg_div, div_self hS.ne', hneg]
    ring

/-- The maximum is at least every magnitude. -/
theorem le_absmax (n : ℕ) (x : Fin n → ℝ) (i : Fin n) :
    |x i| ≤ absmax n x := by
  unfold absmax
  exact le_ciSup (f := fun j : Fin n => |x j|) (Set.finite_range _).bddAbove i

/-- The maximum is nonnegative. -/
theorem absmax_nonneg (n : ℕ) (x : Fin n → ℝ) (hn : 0 < n) :
    0 ≤ absmax n x :=
  (abs_nonneg (x ⟨0, hn⟩)).trans (le_absmax n x ⟨0, hn⟩)

/-- The maximum to a power is at most the sum of the powers. -/
theorem absmax_rpow_le_sum (n : ℕ) (x : Fin n → ℝ) (q : ℝ) (hn : 0 < n) :
    absmax n x ^ (q : ℝ) ≤ ∑ i : Fin n, |x i| ^ (q : ℝ) := by
  haveI : Nonempty (Fin n) := ⟨⟨0, hn⟩⟩
  obtain ⟨i, hi⟩ := exists_eq_ciSup_of_finite (f := fun j : Fin n => |x j|)
  have hmax : absmax n x = |x i| := hi.symm
  rw [hmax]
  exact Finset.single_le_sum (f := fun j : Fin n => |x j| ^ q)
    (fun j _ => Real.rpow_nonneg (abs_nonneg (x j)) q) (Finset.mem_univ i)

/-- Moment bound: `E S <= (n E|X|^q)^(1/q)` for q >= 1, for any blocks whatever. -/
theorem absmax_mean_le_momentBound (m n : ℕ) (p : Fin m → ℝ) (x : Fin m → Fin n → ℝ) (q : ℝ) (hn : 0 < n)
    (hq : 1 ≤ q) (hp : ∀ k : Fin m, 0 ≤ p k) (hp1 : ∑ k : Fin m, p k = 1) :
    ∑ k : Fin m, p k * absmax n (x k)
      ≤ momentBound n q ((∑ k : Fin m, p k * ∑ i : Fin n, |x k i| ^ (q : ℝ)) / (n : ℝ)) := by
  have hn' : (n : ℝ) ≠ 0 := (Nat.cast_pos.mpr hn).ne'
  have hpow := Real.arith_mean_le_rpow_mean Finset.univ p (fun k : Fin m => absmax n (x k))
    (fun k _ => hp k) hp1 (fun k _ => absmax_nonneg n (x k) hn) hq
  have hsum : ∑ k : Fin m, p k * absmax n (x k) ^ q ≤ ∑ k : Fin m, p k * ∑ i : Fin n, |x k i| ^ q :=
    Finset.sum_le_sum (fun k _ => mul_le_mul_of_nonneg_left (absmax_rpow_le_sum n (x k) q hn) (hp k))
  have hnn : 0 ≤ ∑ k : Fin m, p k * absmax n (x k) ^ q :=
    Finset.sum_nonneg (fun k _ => mul_nonneg (hp k) (Real.rpow_nonneg (absmax_nonneg n (x k) hn) q))
  have hq1 : 0 < q := by linarith
  have hq0 : 0 ≤ 1 / q := by positivity
  unfold momentBound
  rw [mul_div_cancel₀ _ hn']
  exact hpow.trans (Real.rpow_le_rpow hnn hsum hq0)

/-- Mean of the largest of `n` uniform draws: `n / (n + 1)` [DavidNagaraja2003]. -/
theorem uniform_max_mean (n : ℕ) :
    (∫ u in (0 : ℝ)..1, (n : ℝ) * u ^ n) = (n : ℝ) / ((n : ℝ) + 1) := by
  rw [intervalIntegral.integral_const_mul, integral_pow, one_pow, zero_pow (Nat.succ_ne_zero n), sub_zero]
  ring

/-- Mean of the largest of `n` exponential draws: the harmonic number [DavidNagaraja2003]. Statement only. -/
theorem exponential_max_mean (n : ℕ) :
    ∫ t in Set.Ioi (0 : ℝ), (1 - (1 - Real.exp (-t)) ^ n) = ∑ i ∈ Finset.range n, 1 / ((i : ℝ) + 1) := by
  sorry

/-- Jensen, lower end: a convex quantile function of the uniform maximum [DavidNagaraja2003]. -/
theorem jensen_lower (m : ℕ) (p u : Fin m → ℝ) (g : ℝ → ℝ) (mean : ℝ) (hg : ConvexOn ℝ (Set.Ico 0 1) g)
    (hp : ∀ k : Fin m, 0 ≤ p k) (hp1 : ∑ k : Fin m, p k = 1) (hu : ∀ k : Fin m, u k ∈ Set.Ico (0 : ℝ) 1)
    (hmean : ∑ k : Fin m, p k * u k = mean) :
    g mean ≤ ∑ k : Fin m, p k * g (u k) := by
  have h := hg.map_sum_le (t := Finset.univ) (w := p) (p := u) (fun k _ => hp k) hp1 (fun k _ => hu k)
  simp only [smul_eq_mul] at h
  rw [hmean] at h
  exact h

/-- Jensen, upper end: a concave quantile function of the exponential maximum [DavidNagaraja2003]. -/
theorem jensen_upper (m : ℕ) (p t : Fin m → ℝ) (g : ℝ → ℝ) (mean : ℝ) (hg : ConcaveOn ℝ (Set.Ici 0) g)
    (hp : ∀ k : Fin m, 0 ≤ p k) (hp1 : ∑ k : Fin m, p k = 1) (ht : ∀ k : Fin m, 0 ≤ t k)
    (hmean : ∑ k : Fin m, p k * t k = mean) :
    ∑ k : Fin m, p k * g (t k) ≤ g mean := by
  have h := hg.le_map_sum (t := Finset.univ) (w := p) (p := t) (fun k _ => hp k) hp1
    (fun k _ => Set.mem_Ici.mpr (ht k))
  simp only [smul_eq_mul] at h
  rw [hmean] at h
  exact h

end QuantGap
