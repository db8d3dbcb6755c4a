import Mathlib.Algebra.BigOperators.Fin
import Mathlib.Algebra.Order.BigOperators.Group.Finset
import Mathlib.Analysis.SpecialFunctions.Log.Basic
import Mathlib.Tactic.Linarith
import Mathlib.Tactic.Positivity
import QuantGap.Tactic

/-!
# Both ends of a rate-distortion bracket, on finite alphabets

In nats. A source `p` on `Fin n`, a channel `w i j` from `Fin n` to `Fin m`, a distortion `d i j`, a slope `s`.
-/

namespace QuantGap

/-- Probability of the output `j`. -/
noncomputable def outputLaw (n m : ℕ) (p : Fin n → ℝ) (w : Fin n → Fin m → ℝ) (j : Fin m) : ℝ :=
  ∑ k : Fin n, p k * w k j

/-- Mutual information of a channel [CoverThomas2006]. -/
noncomputable def mutualInformation (n m : ℕ) (p : Fin n → ℝ) (w : Fin n → Fin m → ℝ) : ℝ :=
  ∑ i : Fin n, ∑ j : Fin m, p i * w i j * Real.log (w i j / outputLaw n m p w j)

/-- Mean divergence of the channel from a fixed law `q` of the output. -/
noncomputable def meanDivergence (n m : ℕ) (p : Fin n → ℝ) (w : Fin n → Fin m → ℝ) (q : Fin m → ℝ) : ℝ :=
  ∑ i : Fin n, ∑ j : Fin m, p i * w i j * Real.log (w i j / q j)

/-- Mean distortion of a channel. -/
noncomputable def meanDistortion (n m : ℕ) (p : Fin n → ℝ) (w : Fin n → Fin m → ℝ) (d : Fin n → Fin m → ℝ) : ℝ :=
  ∑ i : Fin n, ∑ j : Fin m, p i * w i j * d i j

/-- The mixture `c` of the kernel `exp (-s d)` with weights `q`. -/
noncomputable def mixture (n m : ℕ) (q : Fin m → ℝ) (d : Fin n → Fin m → ℝ) (s : ℝ) (i : Fin n) : ℝ :=
  ∑ k : Fin m, q k * Real.exp (-s * d i k)

/-- The channel that weights `q` and slope `s` define [Csiszar1974; Blahut1972]. -/
noncomputable def tiltedChannel (n m : ℕ) (q : Fin m → ℝ) (d : Fin n → Fin m → ℝ) (s : ℝ) (i : Fin n)
    (j : Fin m) : ℝ :=
  q j * Real.exp (-s * d i j) / mixture n m q d s i

/-- One term of the lower end. -/
theorem dual_term (P W r L s d : ℝ) (hP : 0 ≤ P) (hW : 0 ≤ W) (hr : P * W ≤ r) (hL : 0 < L) :
    P * W - r * (P * L * Real.exp (-s * d))
      ≤ P * W * Real.log (W / r) - P * W * Real.log L + s * (P * W * d) := by
  have hPW : 0 ≤ P * W := mul_nonneg hP hW
  have hr0 : 0 ≤ r := hPW.trans hr
  have hE := Real.exp_pos (-s * d)
  rcases hPW.eq_or_lt with h0 | hpos
  · have hnn : 0 ≤ r * (P * L * Real.exp (-s * d)) := by positivity
    rw [← h0]
    linarith
  · have hP' : 0 < P := lt_of_le_of_ne hP (fun h => by
      rw [← h, zero_mul] at hpos
      exact lt_irrefl _ hpos)
    have hW' : 0 < W := lt_of_le_of_ne hW (fun h => by
      rw [← h, mul_zero] at hpos
      exact lt_irrefl _ hpos)
    have hr' : 0 < r := lt_of_lt_of_le hpos hr
    have hz : 0 < r * L * Real.exp (-s * d) / W := by positivity
    have hlog : Real.log (r * L * Real.exp (-s * d) / W)
        = Real.log r + Real.log L + -s * d - Real.log W := by
      rw [Real.log_div (by positivity) hW'.ne', Real.log_mul (by positivity) hE.ne',
        Real.log_mul hr'.ne' hL.ne', Real.log_exp]
    have hle := Real.log_le_sub_one_of_pos hz
    have hdiv := Real.log_div hW'.ne' hr'.ne'
    have key : 1 - r * L * Real.exp (-s * d) / W ≤ Real.log (W / r) - Real.log L + s * d := by
      rw [hdiv]
      linarith
    have hmul := mul_le_mul_of_nonneg_left key hpos.le
    have e1 : P * W * (1 - r * L * Real.exp (-s * d) / W) = P * W - r * (P * L * Real.exp (-s * d)) := by
      generalize Real.exp (-s * d) = E at *
      field_ring
    have e2 : P * W * (Real.log (W / r) - Real.log L + s * d)
        = P * W * Real.log (W / r) - P * W * Real.log L + s * (P * W * d) := by ring
    rw [e1, e2] at hmul
    exact hmul

/-- The joint law of input and output sums to 1. -/
theorem joint_sum (n m : ℕ) (p : Fin n → ℝ) (w : Fin n → Fin m → ℝ) (hp1 : ∑ i : Fin n, p i = 1)
    (hw1 : ∀ i : Fin n, ∑ j : Fin m, w i j = 1) :
    ∑ i : Fin n, ∑ j : Fin m, p i * w i j = 1 := by
  calc ∑ i : Fin n, ∑ j : Fin m, p i * w i j = ∑ i : Fin n, p i * ∑ j : Fin m, w i j := by
        simp only [Finset.mul_sum]
    _ = 1 := by simp only [hw1, mul_one, hp1]

/-- The law of the output sums to 1. -/
theorem outputLaw_sum (n m : ℕ) (p : Fin n → ℝ) (w : Fin n → Fin m → ℝ) (hp1 : ∑ i : Fin n, p i = 1)
    (hw1 : ∀ i : Fin n, ∑ j : Fin m, w i j = 1) :
    ∑ j : Fin m, outputLaw n m p w j = 1 := by
  unfold outputLaw
  rw [Finset.sum_comm]
  exact joint_sum n m p w hp1 hw1

/-- A term of the output's law is at most the whole. -/
theorem joint_le_outputLaw (n m : ℕ) (p : Fin n → ℝ) (w : Fin n → Fin m → ℝ) (i : Fin n) (j : Fin m)
    (hp : ∀ k : Fin n, 0 ≤ p k) (hw : ∀ k : Fin n, ∀ l : Fin m, 0 ≤ w k l) :
    p i * w i j ≤ outputLaw n m p w j := by
  unfold outputLaw
  exact Finset.single_le_sum (f := fun k : Fin n => p k * w k j)
    (fun k _ => mul_nonneg (hp k) (hw k j)) (Finset.mem_univ i)

/-- Weak duality, the lower end: no channel has less information than `E ln lam - s E d` [Csiszar1974]. -/
theorem weak_duality (n m : ℕ) (p : Fin n → ℝ) (w : Fin n → Fin m → ℝ) (d : Fin n → Fin m → ℝ) (s : ℝ)
    (lam : Fin n → ℝ) (hp : ∀ i : Fin n, 0 ≤ p i) (hp1 : ∑ i : Fin n, p i = 1)
    (hw : ∀ i : Fin n, ∀ j : Fin m, 0 ≤ w i j) (hw1 : ∀ i : Fin n, ∑ j : Fin m, w i j = 1)
    (hlam : ∀ i : Fin n, 0 < lam i)
    (hdual : ∀ j : Fin m, ∑ i : Fin n, p i * lam i * Real.exp (-s * d i j) ≤ 1) :
    (∑ i : Fin n, p i * Real.log (lam i)) - s * meanDistortion n m p w d ≤ mutualInformation n m p w := by
  have hout : ∀ j : Fin m, 0 ≤ outputLaw n m p w j := fun j =>
    Finset.sum_nonneg (fun k _ => mul_nonneg (hp k) (hw k j))
  have hsum := Finset.sum_le_sum (fun (i : Fin n) (_ : i ∈ Finset.univ) =>
    Finset.sum_le_sum (fun (j : Fin m) (_ : j ∈ Finset.univ) =>
      dual_term (p i) (w i j) (outputLaw n m p w j) (lam i) s (d i j) (hp i) (hw i j)
        (joint_le_outputLaw n m p w i j hp hw) (hlam i)))
  simp only [Finset.sum_sub_distrib, Finset.sum_add_distrib] at hsum
  have hA := joint_sum n m p w hp1 hw1
  have hB : ∑ i : Fin n, ∑ j : Fin m, outputLaw n m p w j * (p i * lam i * Real.exp (-s * d i j)) ≤ 1 := by
    rw [Finset.sum_comm]
    calc ∑ j : Fin m, ∑ i : Fin n, outputLaw n m p w j * (p i * lam i * Real.exp (-s * d i j))
        = ∑ j : Fin m, outputLaw n m p w j * ∑ i : Fin n, p i * lam i * Real.exp (-s * d i j) := by
          simp only [Finset.mul_sum]
      _ ≤ ∑ j : Fin m, outputLaw n m p w j * 1 :=
          Finset.sum_le_sum (fun j _ => mul_le_mul_of_nonneg_left (hdual j) (hout j))
      _ = 1 := by
          simp only [mul_one]
          exact outputLaw_sum n m p w hp1 hw1
  have hC : ∑ i : Fin n, ∑ j : Fin m, p i * w i j * Real.log (lam i) = ∑ i : Fin n, p i * Real.log (lam i) := by
    refine Finset.sum_congr rfl (fun i _ => ?_)
    rw [← Finset.sum_mul, ← Finset.mul_sum, hw1, mul_one]
  have hD : ∑ i : Fin n, ∑ j : Fin m, s * (p i * w i j * d i j) = s * meanDistortion n m p w d := by
    unfold meanDistortion
    simp only [Finset.mul_sum]
  unfold mutualInformation
  linarith

/-- The lower end as the solver uses it: every channel of distortion at most `D` has at least this rate. -/
theorem rate_lower_end (n m : ℕ) (p : Fin n → ℝ) (w : Fin n → Fin m → ℝ) (d : Fin n → Fin m → ℝ) (s D : ℝ)
    (lam : Fin n → ℝ) (hs : 0 ≤ s) (hp : ∀ i : Fin n, 0 ≤ p i) (hp1 : ∑ i : Fin n, p i = 1)
    (hw : ∀ i : Fin n, ∀ j : Fin m, 0 ≤ w i j) (hw1 : ∀ i : Fin n, ∑ j : Fin m, w i j = 1)
    (hlam : ∀ i : Fin n, 0 < lam i)
    (hdual : ∀ j : Fin m, ∑ i : Fin n, p i * lam i * Real.exp (-s * d i j) ≤ 1)
    (hD : meanDistortion n m p w d ≤ D) :
    (∑ i : Fin n, p i * Real.log (lam i)) - s * D ≤ mutualInformation n m p w := by
  have h := weak_duality n m p w d s lam hp hp1 hw hw1 hlam hdual
  have hsD := mul_le_mul_of_nonneg_left hD hs
  linarith

/-- One term of the upper end. -/
theorem divergence_term (P W r q : ℝ) (hP : 0 ≤ P) (hW : 0 ≤ W) (hr : P * W ≤ r) (hq : 0 < q) :
    P * W - q * (P * W / r) ≤ P * W * Real.log (W / q) - P * W * Real.log (W / r) := by
  have hPW : 0 ≤ P * W := mul_nonneg hP hW
  rcases hPW.eq_or_lt with h0 | hpos
  · rw [← h0, zero_div]
    linarith
  · have hW' : 0 < W := lt_of_le_of_ne hW (fun h => by
      rw [← h, mul_zero] at hpos
      exact lt_irrefl _ hpos)
    have hr' : 0 < r := lt_of_lt_of_le hpos hr
    have hle := Real.log_le_sub_one_of_pos (div_pos hq hr')
    have h1 := Real.log_div hq.ne' hr'.ne'
    have h2 := Real.log_div hW'.ne' hq.ne'
    have h3 := Real.log_div hW'.ne' hr'.ne'
    have key : 1 - q / r ≤ Real.log (W / q) - Real.log (W / r) := by
      rw [h2, h3]
      linarith
    have hmul := mul_le_mul_of_nonneg_left key hpos.le
    have e1 : P * W * (1 - q / r) = P * W - q * (P * W / r) := by ring
    have e2 : P * W * (Real.log (W / q) - Real.log (W / r))
        = P * W * Real.log (W / q) - P * W * Real.log (W / r) := by ring
    rw [e1, e2] at hmul
    exact hmul

/-- The upper end: the information is at most the mean divergence from any positive law of the output. -/
theorem information_le_meanDivergence (n m : ℕ) (p : Fin n → ℝ) (w : Fin n → Fin m → ℝ) (q : Fin m → ℝ)
    (hp : ∀ i : Fin n, 0 ≤ p i) (hp1 : ∑ i : Fin n, p i = 1)
    (hw : ∀ i : Fin n, ∀ j : Fin m, 0 ≤ w i j) (hw1 : ∀ i : Fin n, ∑ j : Fin m, w i j = 1)
    (hq : ∀ j : Fin m, 0 < q j) (hq1 : ∑ j : Fin m, q j = 1) :
    mutualInformation n m p w ≤ meanDivergence n m p w q := by
  have hsum := Finset.sum_le_sum (fun (i : Fin n) (_ : i ∈ Finset.univ) =>
    Finset.sum_le_sum (fun (j : Fin m) (_ : j ∈ Finset.univ) =>
      divergence_term (p i) (w i j) (outputLaw n m p w j) (q j) (hp i) (hw i j)
        (joint_le_outputLaw n m p w i j hp hw) (hq j)))
  simp only [Finset.sum_sub_distrib] at hsum
  have hA := joint_sum n m p w hp1 hw1
  have hB : ∑ i : Fin n, ∑ j : Fin m, q j * (p i * w i j / outputLaw n m p w j) ≤ 1 := by
    rw [Finset.sum_comm]
    calc ∑ j : Fin m, ∑ i : Fin n, q j * (p i * w i j / outputLaw n m p w j)
        = ∑ j : Fin m, q j * (outputLaw n m p w j / outputLaw n m p w j) := by
          refine Finset.sum_congr rfl (fun j _ => ?_)
          rw [← Finset.mul_sum, ← Finset.sum_div]
          rfl
      _ ≤ ∑ j : Fin m, q j * 1 :=
          Finset.sum_le_sum (fun j _ => mul_le_mul_of_nonneg_left (div_self_le_one _) (hq j).le)
      _ = 1 := by simp only [mul_one, hq1]
  unfold mutualInformation meanDivergence
  linarith

/-- The mixture is positive. -/
theorem mixture_pos (n m : ℕ) (q : Fin m → ℝ) (d : Fin n → Fin m → ℝ) (s : ℝ) (i : Fin n)
    (hq : ∀ j : Fin m, 0 < q j) (hq1 : ∑ j : Fin m, q j = 1) :
    0 < mixture n m q d s i := by
  have hne : (Finset.univ : Finset (Fin m)).Nonempty := by
    by_contra h
    rw [Finset.not_nonempty_iff_eq_empty] at h
    rw [h, Finset.sum_empty] at hq1
    exact zero_ne_one hq1
  unfold mixture
  exact Finset.sum_pos (fun k _ => mul_pos (hq k) (Real.exp_pos _)) hne

/-- The tilted channel's rows sum to 1. -/
theorem tiltedChannel_sum (n m : ℕ) (q : Fin m → ℝ) (d : Fin n → Fin m → ℝ) (s : ℝ) (i : Fin n)
    (hq : ∀ j : Fin m, 0 < q j) (hq1 : ∑ j : Fin m, q j = 1) :
    ∑ j : Fin m, tiltedChannel n m q d s i j = 1 := by
  have hc := mixture_pos n m q d s i hq hq1
  unfold tiltedChannel
  rw [← Finset.sum_div]
  exact div_self hc.ne'

/-- The upper end in the solver's form: the tilted channel's mean divergence is `-s D - E ln c`. -/
theorem meanDivergence_tilted (n m : ℕ) (p : Fin n → ℝ) (q : Fin m → ℝ) (d : Fin n → Fin m → ℝ) (s : ℝ)
    (hq : ∀ j : Fin m, 0 < q j) (hq1 : ∑ j : Fin m, q j = 1) :
    meanDivergence n m p (tiltedChannel n m q d s) q
      = -s * meanDistortion n m p (tiltedChannel n m q d s) d
        - ∑ i : Fin n, p i * Real.log (mixture n m q d s i) := by
  have hlog : ∀ i : Fin n, ∀ j : Fin m,
      Real.log (tiltedChannel n m q d s i j / q j) = -s * d i j - Real.log (mixture n m q d s i) := by
    intro i j
    have hc := mixture_pos n m q d s i hq hq1
    have hqj := hq j
    have hE := Real.exp_pos (-s * d i j)
    have e : tiltedChannel n m q d s i j / q j = Real.exp (-s * d i j) / mixture n m q d s i := by
      unfold tiltedChannel
      generalize mixture n m q d s i = c at *
      generalize Real.exp (-s * d i j) = E at *
      field_ring
    rw [e, Real.log_div hE.ne' hc.ne', Real.log_exp]
  have hrow : ∀ i : Fin n,
      ∑ j : Fin m, p i * tiltedChannel n m q d s i j * Real.log (tiltedChannel n m q d s i j / q j)
        = -s * (∑ j : Fin m, p i * tiltedChannel n m q d s i j * d i j)
          - p i * Real.log (mixture n m q d s i) := by
    intro i
    calc ∑ j : Fin m, p i * tiltedChannel n m q d s i j * Real.log (tiltedChannel n m q d s i j / q j)
        = ∑ j : Fin m, (-s * (p i * tiltedChannel n m q d s i j * d i j)
          - p i * Real.log (mixture n m q d s i) * tiltedChannel n m q d s i j) := by
          refine Finset.sum_congr rfl (fun j _ => ?_)
          rw [hlog i j]
          ring
      _ = -s * (∑ j : Fin m, p i * tiltedChannel n m q d s i j * d i j)
          - p i * Real.log (mixture n m q d s i) := by
          rw [Finset.sum_sub_distrib, ← Finset.mul_sum, ← Finset.mul_sum,
            tiltedChannel_sum n m q d s i hq hq1, mul_one]
  unfold meanDivergence meanDistortion
  rw [Finset.sum_congr rfl (fun i _ => hrow i), Finset.sum_sub_distrib, ← Finset.mul_sum]

end QuantGap
