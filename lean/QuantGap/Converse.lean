import QuantGap.Block
import QuantGap.FiniteEntropy
import QuantGap.Shannon

/-!
# Shannon's bound on a quantizer

In bits. An output `j` has the probability `p j`; given it, the source has the entropy `c j` and the mean squared
error `v j`. That no law of that error has more entropy than the Gaussian is a hypothesis.
-/

namespace QuantGap

/-- No output of a finite alphabet tells less than Shannon's bound of a source of entropy `h` at distortion `D`
[Shannon1959]. -/
theorem information_ge_slb (m : ℕ) (p v c : Fin m → ℝ) (h D : ℝ) (hp : ∀ j : Fin m, 0 ≤ p j)
    (hp1 : ∑ j : Fin m, p j = 1) (hv : ∀ j : Fin m, 0 < v j) (hD : 0 < D)
    (hvar : ∑ j : Fin m, p j * v j ≤ D)
    (hc : ∀ j : Fin m, c j ≤ (1 + Real.log (2 * Real.pi * v j)) / (2 * Real.log 2)) :
    shannonLowerBound h D ≤ h - ∑ j : Fin m, p j * c j := by
  have hl := two_mul_log_two_pos
  have hpi : 0 < 2 * Real.pi := by positivity
  have hterm : ∀ j : Fin m, p j * c j ≤ p j * (Real.log (2 * Real.pi * D) / (2 * Real.log 2))
      + p j * v j * (1 / (D * (2 * Real.log 2))) := by
    intro j
    have hvj := hv j
    have hlog := Real.log_le_sub_one_of_pos (div_pos hvj hD)
    rw [Real.log_div hvj.ne' hD.ne'] at hlog
    have e1 := Real.log_mul hpi.ne' hvj.ne'
    have e2 := Real.log_mul hpi.ne' hD.ne'
    have hcj : c j ≤ (Real.log (2 * Real.pi * D) + v j / D) / (2 * Real.log 2) :=
      (hc j).trans (div_le_div_of_nonneg_right (by linarith) hl.le)
    have hmul := mul_le_mul_of_nonneg_left hcj (hp j)
    have e : p j * ((Real.log (2 * Real.pi * D) + v j / D) / (2 * Real.log 2))
        = p j * (Real.log (2 * Real.pi * D) / (2 * Real.log 2))
          + p j * v j * (1 / (D * (2 * Real.log 2))) := by
      generalize Real.log (2 * Real.pi * D) = y at *
      generalize 2 * Real.log 2 = l at *
      field_ring
    rw [e] at hmul
    exact hmul
  have hsum := Finset.sum_le_sum (fun (j : Fin m) (_ : j ∈ Finset.univ) => hterm j)
  rw [Finset.sum_add_distrib, ← Finset.sum_mul, ← Finset.sum_mul, hp1, one_mul] at hsum
  have hD' := mul_le_mul_of_nonneg_right hvar (div_pos one_pos (mul_pos hD hl)).le
  have e3 : D * (1 / (D * (2 * Real.log 2))) = 1 / (2 * Real.log 2) := by
    generalize 2 * Real.log 2 = l at *
    field_ring
  rw [e3] at hD'
  have e4 : (1 + Real.log (2 * Real.pi * D)) / (2 * Real.log 2)
      = Real.log (2 * Real.pi * D) / (2 * Real.log 2) + 1 / (2 * Real.log 2) := by ring
  unfold shannonLowerBound
  rw [e4]
  linarith

/-- Jensen's inequality for cells in which the error is Gaussian: what they tell is at least Shannon's bound. -/
theorem gaussian_cells_ge_slb (m : ℕ) (p v : Fin m → ℝ) (h : ℝ) (hm : 0 < m) (hp : ∀ j : Fin m, 0 < p j)
    (hp1 : ∑ j : Fin m, p j = 1) (hv : ∀ j : Fin m, 0 < v j) :
    shannonLowerBound h (∑ j : Fin m, p j * v j)
      ≤ h - ∑ j : Fin m, p j * ((1 + Real.log (2 * Real.pi * v j)) / (2 * Real.log 2)) := by
  haveI : Nonempty (Fin m) := ⟨⟨0, hm⟩⟩
  exact information_ge_slb m p v (fun j => (1 + Real.log (2 * Real.pi * v j)) / (2 * Real.log 2)) h
    (∑ j : Fin m, p j * v j) (fun j => (hp j).le) hp1 hv
    (Finset.sum_pos (fun j _ => mul_pos (hp j) (hv j)) Finset.univ_nonempty) (le_refl _) (fun j => le_refl _)

/-- Shannon's bound on the distortion decreases in the rate. -/
theorem distortionLowerBound_antitone (h R1 R2 : ℝ) (hR : R1 ≤ R2) :
    distortionLowerBound h R2 ≤ distortionLowerBound h R1 := by
  have hl := Real.log_pos (show (1 : ℝ) < 2 by norm_num)
  have hk : 0 < 2 * Real.pi * Real.exp 1 := by positivity
  have hexp : Real.exp (2 * (h - R2) * Real.log 2) ≤ Real.exp (2 * (h - R1) * Real.log 2) := by
    have h1 := mul_le_mul_of_nonneg_right hR hl.le
    exact Real.exp_le_exp.mpr (by linarith)
  unfold distortionLowerBound
  exact div_le_div_of_nonneg_right hexp hk.le

/-- Shannon's bound on the rate read as one on the distortion. -/
theorem distortion_ge_of_rate (h H D : ℝ) (hD : 0 < D) (hH : shannonLowerBound h D ≤ H) :
    distortionLowerBound h H ≤ D :=
  (distortionLowerBound_antitone h (shannonLowerBound h D) H hH).trans
    (distortionLowerBound_shannonLowerBound h D hD).le

/-- A quantizer's error is at least Shannon's bound at its entropy; the source's entropy is that of the index and
that within the cells [Shannon1959]. -/
theorem entropyCoded_ge_slb (m : ℕ) (p v c : Fin m → ℝ) (D : ℝ) (hp : ∀ j : Fin m, 0 ≤ p j)
    (hp1 : ∑ j : Fin m, p j = 1) (hv : ∀ j : Fin m, 0 < v j) (hD : 0 < D)
    (hvar : ∑ j : Fin m, p j * v j ≤ D)
    (hc : ∀ j : Fin m, c j ≤ (1 + Real.log (2 * Real.pi * v j)) / (2 * Real.log 2)) :
    distortionLowerBound ((∑ j : Fin m, p j * c j) + entropyOf m p / Real.log 2) (entropyOf m p / Real.log 2)
      ≤ D := by
  have h := information_ge_slb m p v c ((∑ j : Fin m, p j * c j) + entropyOf m p / Real.log 2) D hp hp1 hv hD
    hvar hc
  exact distortion_ge_of_rate _ _ D hD (by linarith)

/-- Shannon's bound on the distortion at the mean entropy and rate is at most its mean. -/
theorem distortionLowerBound_mean_le (k : ℕ) (h R : Fin k → ℝ) (hk : 0 < k) :
    distortionLowerBound ((∑ i : Fin k, h i) / (k : ℝ)) ((∑ i : Fin k, R i) / (k : ℝ))
      ≤ (∑ i : Fin k, distortionLowerBound (h i) (R i)) / (k : ℝ) := by
  have hk' : 0 < (k : ℝ) := Nat.cast_pos.mpr hk
  have hC : 0 < 2 * Real.pi * Real.exp 1 := by positivity
  have hsumh : ∑ i : Fin k, h i = (k : ℝ) * ((∑ i : Fin k, h i) / (k : ℝ)) := by
    generalize ∑ i : Fin k, h i = A at *
    field_ring
  have hsumR : ∑ i : Fin k, R i = (k : ℝ) * ((∑ i : Fin k, R i) / (k : ℝ)) := by
    generalize ∑ i : Fin k, R i = A at *
    field_ring
  generalize (∑ i : Fin k, h i) / (k : ℝ) = H at *
  generalize (∑ i : Fin k, R i) / (k : ℝ) = b at *
  have hterm : ∀ i : Fin k, Real.exp (2 * (H - b) * Real.log 2) / (2 * Real.pi * Real.exp 1)
      * (1 + (2 * (h i - R i) * Real.log 2 - 2 * (H - b) * Real.log 2)) ≤ distortionLowerBound (h i) (R i) := by
    intro i
    have h1 := Real.add_one_le_exp (2 * (h i - R i) * Real.log 2 - 2 * (H - b) * Real.log 2)
    have h2 := mul_le_mul_of_nonneg_left h1 (Real.exp_pos (2 * (H - b) * Real.log 2)).le
    rw [← Real.exp_add] at h2
    have e : 2 * (H - b) * Real.log 2 + (2 * (h i - R i) * Real.log 2 - 2 * (H - b) * Real.log 2)
        = 2 * (h i - R i) * Real.log 2 := by ring
    rw [e] at h2
    have h3 := div_le_div_of_nonneg_right h2 hC.le
    unfold distortionLowerBound
    refine le_trans (le_of_eq ?_) h3
    ring
  have hsum := Finset.sum_le_sum (fun (i : Fin k) (_ : i ∈ Finset.univ) => hterm i)
  rw [← Finset.mul_sum] at hsum
  have e3 : ∑ i : Fin k, (1 + (2 * (h i - R i) * Real.log 2 - 2 * (H - b) * Real.log 2)) = (k : ℝ) := by
    simp only [Finset.sum_add_distrib, Finset.sum_sub_distrib, ← Finset.sum_mul, ← Finset.mul_sum,
      Finset.sum_const, Finset.card_univ, Fintype.card_fin, nsmul_eq_mul, mul_one]
    rw [hsumh, hsumR]
    ring
  rw [e3] at hsum
  rw [le_div_iff₀ hk']
  exact hsum

/-- Rows of entropies `h i` that get `R i` bits each, the effective bits on average, have at least Shannon's bound
at their mean entropy for an error [Shannon1959]. -/
theorem rows_ge_slb (k : ℕ) (h R D : Fin k → ℝ) (bits : ℝ) (n : ℕ) (scaleBits : ℝ) (hk : 0 < k)
    (hR : (∑ i : Fin k, R i) / (k : ℝ) ≤ effectiveBits bits n scaleBits)
    (hrow : ∀ i : Fin k, distortionLowerBound (h i) (R i) ≤ D i) :
    distortionLowerBound ((∑ i : Fin k, h i) / (k : ℝ)) (effectiveBits bits n scaleBits)
      ≤ (∑ i : Fin k, D i) / (k : ℝ) := by
  have h1 := distortionLowerBound_antitone ((∑ i : Fin k, h i) / (k : ℝ)) _ _ hR
  have h2 := distortionLowerBound_mean_le k h R hk
  have h3 : (∑ i : Fin k, distortionLowerBound (h i) (R i)) / (k : ℝ) ≤ (∑ i : Fin k, D i) / (k : ℝ) :=
    div_le_div_of_nonneg_right (Finset.sum_le_sum (fun i _ => hrow i)) (Nat.cast_nonneg k)
  exact (h1.trans h2).trans h3

end QuantGap
