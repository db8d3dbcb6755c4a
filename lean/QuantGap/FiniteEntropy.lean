import QuantGap.Certificate

/-!
# Entropy and mutual information on finite alphabets

In nats. What the mutual information is at most, and that it is convex in the channel.
-/

namespace QuantGap

/-- Entropy of a finite law [CoverThomas2006]. -/
noncomputable def entropyOf (m : ℕ) (q : Fin m → ℝ) : ℝ :=
  ∑ j : Fin m, q j * Real.log (1 / q j)

/-- Two channels, used in the proportions `t` and `1 - t`. -/
noncomputable def mixedChannel (n m : ℕ) (w1 w2 : Fin n → Fin m → ℝ) (t : ℝ) (i : Fin n) (j : Fin m) : ℝ :=
  t * w1 i j + (1 - t) * w2 i j

/-- The entropy of `m` values is at most `ln m` [CoverThomas2006, thm 2.6.4]. -/
theorem entropyOf_le_log (m : ℕ) (q : Fin m → ℝ) (hm : 0 < m) (hq : ∀ j : Fin m, 0 ≤ q j)
    (hq1 : ∑ j : Fin m, q j = 1) :
    entropyOf m q ≤ Real.log (m : ℝ) := by
  have hm' : 0 < (m : ℝ) := Nat.cast_pos.mpr hm
  have hterm : ∀ j : Fin m, q j * Real.log (1 / q j) ≤ q j * Real.log (m : ℝ) + (1 / (m : ℝ) - q j) := by
    intro j
    rcases (hq j).eq_or_lt with h0 | hpos
    · have hinv : 0 < 1 / (m : ℝ) := by positivity
      rw [← h0]
      linarith
    · have hqm : 0 < q j * (m : ℝ) := mul_pos hpos hm'
      have h := Real.log_le_sub_one_of_pos (div_pos one_pos hqm)
      have e1 : Real.log (1 / (q j * (m : ℝ))) = Real.log (1 / q j) - Real.log (m : ℝ) := by
        rw [one_div, one_div, Real.log_inv, Real.log_inv, Real.log_mul hpos.ne' hm'.ne']
        ring
      rw [e1] at h
      have hmul := mul_le_mul_of_nonneg_left h hpos.le
      have e2 : q j * (1 / (q j * (m : ℝ)) - 1) = 1 / (m : ℝ) - q j := by
        generalize q j = a at *
        field_ring
      rw [e2] at hmul
      linarith
  have hsum := Finset.sum_le_sum (fun (j : Fin m) (_ : j ∈ Finset.univ) => hterm j)
  have e3 : ∑ _j : Fin m, 1 / (m : ℝ) = 1 := by
    rw [Finset.sum_const, Finset.card_univ, Fintype.card_fin, nsmul_eq_mul]
    field_ring
  rw [Finset.sum_add_distrib, Finset.sum_sub_distrib, ← Finset.sum_mul, hq1, e3] at hsum
  unfold entropyOf
  linarith

/-- A channel carries no more than the entropy of its output: a quantizer's rate is at most its entropy
[CoverThomas2006, thm 10.2.1]. -/
theorem mutualInformation_le_entropyOf (n m : ℕ) (p : Fin n → ℝ) (w : Fin n → Fin m → ℝ)
    (hp : ∀ i : Fin n, 0 ≤ p i) (hw : ∀ i : Fin n, ∀ j : Fin m, 0 ≤ w i j)
    (hw1 : ∀ i : Fin n, ∑ j : Fin m, w i j = 1) :
    mutualInformation n m p w ≤ entropyOf m (outputLaw n m p w) := by
  have hterm : ∀ i : Fin n, ∀ j : Fin m,
      p i * w i j * Real.log (w i j / outputLaw n m p w j)
        ≤ p i * w i j * Real.log (1 / outputLaw n m p w j) := by
    intro i j
    have hPW : 0 ≤ p i * w i j := mul_nonneg (hp i) (hw i j)
    rcases hPW.eq_or_lt with h0 | hpos
    · rw [← h0]
      simp only [zero_mul, le_refl]
    · have hw' : 0 < w i j := lt_of_le_of_ne (hw i j) (fun h => by
        rw [← h, mul_zero] at hpos
        exact lt_irrefl _ hpos)
      have hr : 0 < outputLaw n m p w j := lt_of_lt_of_le hpos (joint_le_outputLaw n m p w i j hp hw)
      have hle : w i j ≤ 1 := by
        rw [← hw1 i]
        exact Finset.single_le_sum (f := fun l : Fin m => w i l) (fun l _ => hw i l) (Finset.mem_univ j)
      exact mul_le_mul_of_nonneg_left
        (Real.log_le_log (div_pos hw' hr) (div_le_div_of_nonneg_right hle hr.le)) hpos.le
  have hsum : mutualInformation n m p w
      ≤ ∑ i : Fin n, ∑ j : Fin m, p i * w i j * Real.log (1 / outputLaw n m p w j) :=
    Finset.sum_le_sum (fun i _ => Finset.sum_le_sum (fun j _ => hterm i j))
  have e : ∑ i : Fin n, ∑ j : Fin m, p i * w i j * Real.log (1 / outputLaw n m p w j)
      = entropyOf m (outputLaw n m p w) := by
    rw [Finset.sum_comm]
    unfold entropyOf
    refine Finset.sum_congr rfl (fun j _ => ?_)
    rw [← Finset.sum_mul]
    rfl
  rw [e] at hsum
  exact hsum

/-- One term of the information of a channel against the ratio that another channel has. -/
theorem information_term (P W r V q t : ℝ) (hP : 0 ≤ P) (hW : 0 ≤ W) (hr : P * W ≤ r) (ht : 0 < t)
    (hV : t * W ≤ V) (hq : P * V ≤ q) :
    P * W - r * (P * (V / q)) ≤ P * W * Real.log (W / r) - P * W * Real.log (V / q) := by
  have hPW : 0 ≤ P * W := mul_nonneg hP hW
  have hV0 : 0 ≤ V := (mul_nonneg ht.le hW).trans hV
  have hq0 : 0 ≤ q := (mul_nonneg hP hV0).trans hq
  have hr0 : 0 ≤ r := hPW.trans hr
  rcases hPW.eq_or_lt with h0 | hpos
  · have hnn : 0 ≤ r * (P * (V / q)) := mul_nonneg hr0 (mul_nonneg hP (div_nonneg hV0 hq0))
    rw [← h0]
    linarith
  · have hP' : 0 < P := lt_of_le_of_ne hP (fun h => by
      rw [← h, zero_mul] at hpos
      exact lt_irrefl _ hpos)
    have hW' : 0 < W := lt_of_le_of_ne hW (fun h => by
      rw [← h, mul_zero] at hpos
      exact lt_irrefl _ hpos)
    have hV' : 0 < V := lt_of_lt_of_le (mul_pos ht hW') hV
    have hq' : 0 < q := lt_of_lt_of_le (mul_pos hP' hV') hq
    have h := dual_term P W r (V / q) 0 0 hP hW hr (div_pos hV' hq')
    have e : Real.exp (-0 * 0) = 1 := by simp
    rw [e, mul_one] at h
    linarith

/-- No ratio to an output's law of its own averages to more than the mutual information. -/
theorem information_ge_log_ratio (n m : ℕ) (p : Fin n → ℝ) (w v : Fin n → Fin m → ℝ) (t : ℝ) (ht : 0 < t)
    (hp : ∀ i : Fin n, 0 ≤ p i) (hp1 : ∑ i : Fin n, p i = 1) (hw : ∀ i : Fin n, ∀ j : Fin m, 0 ≤ w i j)
    (hw1 : ∀ i : Fin n, ∑ j : Fin m, w i j = 1) (hv : ∀ i : Fin n, ∀ j : Fin m, t * w i j ≤ v i j) :
    ∑ i : Fin n, ∑ j : Fin m, p i * w i j * Real.log (v i j / outputLaw n m p v j)
      ≤ mutualInformation n m p w := by
  have hv0 : ∀ i : Fin n, ∀ j : Fin m, 0 ≤ v i j := fun i j => (mul_nonneg ht.le (hw i j)).trans (hv i j)
  have hout : ∀ j : Fin m, 0 ≤ outputLaw n m p w j := fun j =>
    Finset.sum_nonneg (fun k _ => mul_nonneg (hp k) (hw k j))
  have hsum := Finset.sum_le_sum (fun (i : Fin n) (_ : i ∈ Finset.univ) =>
    Finset.sum_le_sum (fun (j : Fin m) (_ : j ∈ Finset.univ) =>
      information_term (p i) (w i j) (outputLaw n m p w j) (v i j) (outputLaw n m p v j) t (hp i) (hw i j)
        (joint_le_outputLaw n m p w i j hp hw) ht (hv i j) (joint_le_outputLaw n m p v i j hp hv0)))
  simp only [Finset.sum_sub_distrib] at hsum
  have hA := joint_sum n m p w hp1 hw1
  have hB : ∑ i : Fin n, ∑ j : Fin m, outputLaw n m p w j * (p i * (v i j / outputLaw n m p v j)) ≤ 1 := by
    rw [Finset.sum_comm]
    calc ∑ j : Fin m, ∑ i : Fin n, outputLaw n m p w j * (p i * (v i j / outputLaw n m p v j))
        = ∑ j : Fin m, outputLaw n m p w j * (outputLaw n m p v j / outputLaw n m p v j) := by
          refine Finset.sum_congr rfl (fun j _ => ?_)
          rw [← Finset.mul_sum]
          simp only [← mul_div_assoc]
          rw [← Finset.sum_div]
          rfl
      _ ≤ ∑ j : Fin m, outputLaw n m p w j * 1 :=
          Finset.sum_le_sum (fun j _ => mul_le_mul_of_nonneg_left (div_self_le_one _) (hout j))
      _ = 1 := by
          simp only [mul_one]
          exact outputLaw_sum n m p w hp1 hw1
  unfold mutualInformation
  linarith

/-- The mutual information is convex in the channel [CoverThomas2006, thm 2.7.4]. -/
theorem mutualInformation_convex (n m : ℕ) (p : Fin n → ℝ) (w1 : Fin n → Fin m → ℝ) (w2 : Fin n → Fin m → ℝ)
    (t : ℝ) (ht : 0 < t) (ht1 : t < 1) (hp : ∀ i : Fin n, 0 ≤ p i) (hp1 : ∑ i : Fin n, p i = 1)
    (hw1 : ∀ i : Fin n, ∀ j : Fin m, 0 ≤ w1 i j) (hw1s : ∀ i : Fin n, ∑ j : Fin m, w1 i j = 1)
    (hw2 : ∀ i : Fin n, ∀ j : Fin m, 0 ≤ w2 i j) (hw2s : ∀ i : Fin n, ∑ j : Fin m, w2 i j = 1) :
    mutualInformation n m p (mixedChannel n m w1 w2 t)
      ≤ t * mutualInformation n m p w1 + (1 - t) * mutualInformation n m p w2 := by
  have ht' : 0 < 1 - t := by linarith
  have hv1 : ∀ i : Fin n, ∀ j : Fin m, t * w1 i j ≤ mixedChannel n m w1 w2 t i j := by
    intro i j
    have h := mul_nonneg ht'.le (hw2 i j)
    unfold mixedChannel
    linarith
  have hv2 : ∀ i : Fin n, ∀ j : Fin m, (1 - t) * w2 i j ≤ mixedChannel n m w1 w2 t i j := by
    intro i j
    have h := mul_nonneg ht.le (hw1 i j)
    unfold mixedChannel
    linarith
  have ha := mul_le_mul_of_nonneg_left
    (information_ge_log_ratio n m p w1 (mixedChannel n m w1 w2 t) t ht hp hp1 hw1 hw1s hv1) ht.le
  have hb := mul_le_mul_of_nonneg_left
    (information_ge_log_ratio n m p w2 (mixedChannel n m w1 w2 t) (1 - t) ht' hp hp1 hw2 hw2s hv2) ht'.le
  have e : mutualInformation n m p (mixedChannel n m w1 w2 t)
      = t * (∑ i : Fin n, ∑ j : Fin m, p i * w1 i j
          * Real.log (mixedChannel n m w1 w2 t i j / outputLaw n m p (mixedChannel n m w1 w2 t) j))
        + (1 - t) * ∑ i : Fin n, ∑ j : Fin m, p i * w2 i j
          * Real.log (mixedChannel n m w1 w2 t i j / outputLaw n m p (mixedChannel n m w1 w2 t) j) := by
    unfold mutualInformation
    simp only [Finset.mul_sum]
    rw [← Finset.sum_add_distrib]
    refine Finset.sum_congr rfl (fun i _ => ?_)
    rw [← Finset.sum_add_distrib]
    refine Finset.sum_congr rfl (fun j _ => ?_)
    generalize Real.log (mixedChannel n m w1 w2 t i j / outputLaw n m p (mixedChannel n m w1 w2 t) j) = L
    unfold mixedChannel
    ring
  rw [e]
  linarith

/-- The distortion is linear in the channel: with `mutualInformation_convex`, that R(D) is convex
[CoverThomas2006, lemma 10.4.1]. -/
theorem meanDistortion_mixed (n m : ℕ) (p : Fin n → ℝ) (w1 : Fin n → Fin m → ℝ) (w2 : Fin n → Fin m → ℝ)
    (d : Fin n → Fin m → ℝ) (t : ℝ) :
    meanDistortion n m p (mixedChannel n m w1 w2 t) d
      = t * meanDistortion n m p w1 d + (1 - t) * meanDistortion n m p w2 d := by
  unfold meanDistortion
  simp only [Finset.mul_sum]
  rw [← Finset.sum_add_distrib]
  refine Finset.sum_congr rfl (fun i _ => ?_)
  rw [← Finset.sum_add_distrib]
  refine Finset.sum_congr rfl (fun j _ => ?_)
  unfold mixedChannel
  ring

end QuantGap
