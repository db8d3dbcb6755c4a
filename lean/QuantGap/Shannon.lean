import Mathlib.Analysis.SpecialFunctions.Log.Deriv
import Mathlib.Analysis.SpecialFunctions.Pow.Real
import Mathlib.Tactic.Linarith
import Mathlib.Tactic.Positivity
import QuantGap.Tactic

/-!
# Shannon's lower bound and the bounds on the gap above it

Rates and entropies in bits, distortion `D` a mean squared error. A source enters through its entropy `h`, its
standard deviation `sigma` and its Fisher information `J`.
-/

namespace QuantGap

/-- Rate-distortion function of the Gaussian [CoverThomas2006, thm 10.3.2]. -/
noncomputable def gaussianRate (D sigma : ℝ) : ℝ :=
  -(Real.log (D / sigma ^ 2)) / (2 * Real.log 2)

/-- Distortion-rate function of the Gaussian. -/
noncomputable def gaussianDistortion (R sigma : ℝ) : ℝ :=
  sigma ^ 2 / (4 : ℝ) ^ (R : ℝ)

/-- Shannon's lower bound on the rate [Shannon1959]. -/
noncomputable def shannonLowerBound (h D : ℝ) : ℝ :=
  h - (1 + Real.log (2 * Real.pi * D)) / (2 * Real.log 2)

/-- Shannon's lower bound on the distortion [Shannon1959]. -/
noncomputable def distortionLowerBound (h R : ℝ) : ℝ :=
  Real.exp (2 * (h - R) * Real.log 2) / (2 * Real.pi * Real.exp 1)

/-- Bound (a), log-concave sources [MarsigliettiKostina2018]. -/
noncomputable def gapUniversal : ℝ :=
  (1 + Real.log (Real.pi / 2)) / (2 * Real.log 2)

/-- Bound (b'), symmetric log-concave sources [Madiman2018]. -/
noncomputable def gapLogConcave : ℝ :=
  (1 + Real.log (Real.pi / 6)) / (2 * Real.log 2)

/-- Bound (b): the divergence to the Gaussian of equal variance [Berger1971]. -/
noncomputable def gapKl (h sigma : ℝ) : ℝ :=
  (1 + Real.log (2 * Real.pi * sigma ^ 2)) / (2 * Real.log 2) - h

/-- Bound (c), linear in the Fisher information. -/
noncomputable def gapFisherLinear (D J : ℝ) : ℝ :=
  D * J / (2 * Real.log 2)

/-- Bound (d). -/
noncomputable def gapFisherLog (D J : ℝ) : ℝ :=
  Real.log (1 + D * J) / (2 * Real.log 2)

/-- Bound (e), refined: 0 at the Gaussian. -/
noncomputable def gapFisherRefined (D J sigma : ℝ) : ℝ :=
  Real.log (1 + D * (J - 1 / sigma ^ 2)) / (2 * Real.log 2)

/-- Gain of the forward channel. -/
noncomputable def forwardGain (D sigma : ℝ) : ℝ :=
  1 - D / sigma ^ 2

/-- Noise variance of the forward channel. -/
noncomputable def forwardNoise (D sigma : ℝ) : ℝ :=
  D / forwardGain D sigma

/-- Twice the logarithm of 2 is positive. -/
theorem two_mul_log_two_pos :
    0 < 2 * Real.log 2 := by
  have h := Real.log_pos (show (1 : ℝ) < 2 by norm_num)
  linarith

/-- The Gaussian's distortion at its own rate. -/
theorem gaussianRate_gaussianDistortion (R sigma : ℝ) (hsigma : 0 < sigma) :
    gaussianRate (gaussianDistortion R sigma) sigma = R := by
  have hl := two_mul_log_two_pos
  have hs : 0 < sigma ^ 2 := by positivity
  have h4 : 0 < (4 : ℝ) ^ R := Real.rpow_pos_of_pos (by norm_num) R
  have e : sigma ^ 2 / (4 : ℝ) ^ R / sigma ^ 2 = ((4 : ℝ) ^ R)⁻¹ := by
    generalize (4 : ℝ) ^ R = q at *
    field_ring
  have e4 : Real.log 4 = 2 * Real.log 2 := by
    rw [show (4 : ℝ) = 2 * 2 by norm_num, Real.log_mul (by norm_num) (by norm_num)]
    ring
  unfold gaussianRate gaussianDistortion
  rw [e, Real.log_inv, Real.log_rpow (by norm_num), e4, neg_neg, mul_div_assoc, div_self hl.ne', mul_one]

/-- The two forms of Shannon's bound agree: the distortion bound at the bound's own rate is `D`. -/
theorem distortionLowerBound_shannonLowerBound (h D : ℝ) (hD : 0 < D) :
    distortionLowerBound h (shannonLowerBound h D) = D := by
  have hl := Real.log_pos (show (1 : ℝ) < 2 by norm_num)
  have hq : 0 < 2 * Real.pi * D := by positivity
  have hp := Real.pi_pos
  have he := Real.exp_pos (1 : ℝ)
  have e : 2 * (h - shannonLowerBound h D) * Real.log 2 = 1 + Real.log (2 * Real.pi * D) := by
    unfold shannonLowerBound
    generalize Real.log (2 * Real.pi * D) = y
    generalize Real.log 2 = l at *
    field_ring
  unfold distortionLowerBound
  rw [e, Real.exp_add, Real.exp_log hq]
  generalize Real.exp 1 = c at *
  generalize Real.pi = q at *
  field_ring

/-- Bound (b) is what a Gaussian code loses: the Gaussian's rate less Shannon's bound, at any `D`. -/
theorem gaussianRate_sub_shannonLowerBound (h D sigma : ℝ) (hD : 0 < D) (hsigma : 0 < sigma) :
    gaussianRate D sigma - shannonLowerBound h D = gapKl h sigma := by
  have hs : 0 < sigma ^ 2 := by positivity
  have hpi : 0 < 2 * Real.pi := by positivity
  unfold gaussianRate shannonLowerBound gapKl
  rw [Real.log_div hD.ne' hs.ne', Real.log_mul hpi.ne' hD.ne', Real.log_mul hpi.ne' hs.ne']
  ring

/-- The gap is at most (b), for a rate that a Gaussian code attains [Berger1971]. -/
theorem gap_le_gapKl (R h D sigma : ℝ) (hD : 0 < D) (hsigma : 0 < sigma) (hR : R ≤ gaussianRate D sigma) :
    R - shannonLowerBound h D ≤ gapKl h sigma := by
  have e := gaussianRate_sub_shannonLowerBound h D sigma hD hsigma
  linarith

/-- (c) bounds (d): `log (1 + x) <= x`. -/
theorem gapFisherLog_le_linear (D J : ℝ) (hD : 0 < D) (hJ : 0 < J) :
    gapFisherLog D J ≤ gapFisherLinear D J := by
  have hx : 0 < 1 + D * J := by positivity
  have h := Real.log_le_sub_one_of_pos hx
  unfold gapFisherLog gapFisherLinear
  exact div_le_div_of_nonneg_right (by linarith) two_mul_log_two_pos.le

/-- What (e) takes the logarithm of is positive for `D < sigma^2`. -/
theorem refined_argument_pos (D J sigma : ℝ) (hD : 0 < D) (hsigma : 0 < sigma) (hDs : D < sigma ^ 2) (hJ : 0 < J) :
    0 < 1 + D * (J - 1 / sigma ^ 2) := by
  have hs : 0 < sigma ^ 2 := by positivity
  have h1 : D / sigma ^ 2 < 1 := by
    rw [div_lt_one hs]
    exact hDs
  have e : 1 + D * (J - 1 / sigma ^ 2) = 1 - D / sigma ^ 2 + D * J := by ring
  have hDJ : 0 < D * J := mul_pos hD hJ
  rw [e]
  linarith

/-- (d) bounds (e). -/
theorem gapFisherRefined_le_log (D J sigma : ℝ) (hD : 0 < D) (hsigma : 0 < sigma) (hDs : D < sigma ^ 2)
    (hJ : 0 < J) :
    gapFisherRefined D J sigma ≤ gapFisherLog D J := by
  have hpos := refined_argument_pos D J sigma hD hsigma hDs hJ
  have hinv : 0 < 1 / sigma ^ 2 := by positivity
  have hle : 1 + D * (J - 1 / sigma ^ 2) ≤ 1 + D * J := by
    have h := mul_pos hD hinv
    linarith
  unfold gapFisherRefined gapFisherLog
  exact div_le_div_of_nonneg_right (Real.log_le_log hpos hle) two_mul_log_two_pos.le

/-- (e) vanishes where the Fisher information is the Gaussian's. -/
theorem gapFisherRefined_gaussian (D sigma : ℝ) :
    gapFisherRefined D (1 / sigma ^ 2) sigma = 0 := by
  unfold gapFisherRefined
  rw [sub_self, mul_zero, add_zero, Real.log_one, zero_div]

/-- (e) is nonnegative when the Fisher information is at least the Gaussian's (Cramer-Rao). -/
theorem gapFisherRefined_nonneg (D J sigma : ℝ) (hD : 0 < D) (hJ : 1 / sigma ^ 2 ≤ J) :
    0 ≤ gapFisherRefined D J sigma := by
  have h : 0 ≤ D * (J - 1 / sigma ^ 2) := mul_nonneg hD.le (by linarith)
  unfold gapFisherRefined
  exact div_nonneg (Real.log_nonneg (by linarith)) two_mul_log_two_pos.le

/-- The forward channel `Y = a (X + W)` has distortion `D`. -/
theorem forward_distortion (D sigma : ℝ) (hsigma : 0 < sigma) (hDs : D < sigma ^ 2) :
    (1 - forwardGain D sigma) ^ 2 * sigma ^ 2 + forwardGain D sigma ^ 2 * forwardNoise D sigma = D := by
  have hs : 0 < sigma ^ 2 := by positivity
  have hlt : D / sigma ^ 2 < 1 := by
    rw [div_lt_one hs]
    exact hDs
  have ha : 0 < forwardGain D sigma := by
    unfold forwardGain
    linarith
  have e1 : forwardGain D sigma ^ 2 * forwardNoise D sigma = forwardGain D sigma * D := by
    unfold forwardNoise
    generalize forwardGain D sigma = a at *
    field_ring
  have e2 : (D / sigma ^ 2) ^ 2 * sigma ^ 2 = D / sigma ^ 2 * D := by field_ring
  rw [e1]
  unfold forwardGain
  have e3 : (1 - (1 - D / sigma ^ 2)) ^ 2 * sigma ^ 2 = (D / sigma ^ 2) ^ 2 * sigma ^ 2 := by ring
  rw [e3, e2]
  ring

/-- The noise of the forward channel is positive. -/
theorem forwardNoise_pos (D sigma : ℝ) (hD : 0 < D) (hsigma : 0 < sigma) (hDs : D < sigma ^ 2) :
    0 < forwardNoise D sigma := by
  have hs : 0 < sigma ^ 2 := by positivity
  have hlt : D / sigma ^ 2 < 1 := by
    rw [div_lt_one hs]
    exact hDs
  unfold forwardNoise forwardGain
  exact div_pos hD (by linarith)

/-- What the logarithms of (e)'s proof combine to. -/
theorem forward_combine (D J sigma : ℝ) (hD : 0 < D) (hsigma : 0 < sigma) (hDs : D < sigma ^ 2) :
    (1 + forwardNoise D sigma * J) * D / forwardNoise D sigma = 1 + D * (J - 1 / sigma ^ 2) := by
  have hs : 0 < sigma ^ 2 := by positivity
  have hlt : D / sigma ^ 2 < 1 := by
    rw [div_lt_one hs]
    exact hDs
  have ha : 0 < forwardGain D sigma := by
    unfold forwardGain
    linarith
  have e1 : (1 + forwardNoise D sigma * J) * D / forwardNoise D sigma = forwardGain D sigma + D * J := by
    unfold forwardNoise
    generalize forwardGain D sigma = a at *
    field_ring
  rw [e1]
  unfold forwardGain
  ring

end QuantGap
