import Mathlib.Analysis.SpecialFunctions.Gaussian.GaussianIntegral
import QuantGap.GGD

/-!
# The Gaussian, beta = 2, within the GGD
-/

namespace QuantGap

/-- `Gamma (3/2)` is half of `Gamma (1/2)`. -/
theorem gamma_three_half :
    Real.Gamma (3 / 2) = 1 / 2 * Real.Gamma (1 / 2) := by
  have e : (3 / 2 : ℝ) = 1 / 2 + 1 := by norm_num
  rw [e, Real.Gamma_add_one (by norm_num)]

/-- The Gaussian's scale is `sqrt 2` standard deviations. -/
theorem alpha_gaussian_sq (sigma : ℝ) :
    alpha 2 sigma ^ 2 = 2 * sigma ^ 2 := by
  have h := Real.Gamma_pos_of_pos (show (0 : ℝ) < 1 / 2 by norm_num)
  rw [alpha_sq 2 sigma (by norm_num), gamma_three_half]
  generalize Real.Gamma (1 / 2) = g at *
  field_ring

/-- Entropy of the Gaussian in nats [CoverThomas2006]. -/
theorem entropyNats_gaussian (sigma : ℝ) (hsigma : 0 < sigma) :
    entropyNats 2 sigma = (1 + Real.log (2 * Real.pi * sigma ^ 2)) / 2 := by
  have ha := alpha_gaussian_sq sigma
  have hp := Real.sq_sqrt Real.pi_pos.le
  have hL : (2 * alpha 2 sigma * Real.sqrt Real.pi / 2) ^ 2 = 2 * Real.pi * sigma ^ 2 := by
    calc (2 * alpha 2 sigma * Real.sqrt Real.pi / 2) ^ 2
        = alpha 2 sigma ^ 2 * Real.sqrt Real.pi ^ 2 := by ring
      _ = 2 * Real.pi * sigma ^ 2 := by
        rw [ha, hp]
        ring
  have hlog : Real.log (2 * Real.pi * sigma ^ 2)
      = 2 * Real.log (2 * alpha 2 sigma * Real.sqrt Real.pi / 2) := by
    rw [← hL, Real.log_pow]
    norm_num
  unfold entropyNats
  rw [Real.Gamma_one_half_eq, hlog]
  ring

/-- The divergence of the Gaussian from itself is 0. -/
theorem klToGaussianNats_gaussian :
    klToGaussianNats 2 = 0 := by
  rw [kl_entropy_identity 2 1 (by norm_num) one_pos, entropyNats_gaussian 1 one_pos]
  ring

/-- Fisher information of the Gaussian. -/
theorem fisherInformation_gaussian (sigma : ℝ) (hsigma : 0 < sigma) :
    fisherInformation 2 sigma = 1 / sigma ^ 2 := by
  have h := Real.Gamma_pos_of_pos (show (0 : ℝ) < 1 / 2 by norm_num)
  have e : (2 : ℝ) - 1 / 2 = 3 / 2 := by norm_num
  unfold fisherInformation
  rw [alpha_gaussian_sq, e, gamma_three_half]
  generalize Real.Gamma (1 / 2) = g at *
  field_ring

/-- Kurtosis of the Gaussian. -/
theorem kurtosis_gaussian :
    kurtosis 2 = 3 := by
  have h := Real.Gamma_pos_of_pos (show (0 : ℝ) < 1 / 2 by norm_num)
  have e : (5 / 2 : ℝ) = 3 / 2 + 1 := by norm_num
  unfold kurtosis
  rw [e, Real.Gamma_add_one (by norm_num), gamma_three_half]
  generalize Real.Gamma (1 / 2) = g at *
  field_ring

end QuantGap
