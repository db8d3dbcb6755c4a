import QuantGap.GGDIntegral
import QuantGap.Gaussian

/-!
# The Gaussian has the largest entropy
-/

namespace QuantGap

/-- Against the Gaussian of equal variance the divergence is the difference of the entropies. -/
theorem klNats_gaussian (beta sigma : ℝ) (hbeta : 0 < beta) (hsigma : 0 < sigma) :
    klNats beta 2 sigma sigma = klToGaussianNats beta := by
  have ha := alpha_pos beta sigma hbeta hsigma
  have ha2 := alpha_pos 2 sigma (by norm_num) hsigma
  have h1 := gamma_div_pos 1 beta one_pos hbeta
  have h3 := gamma_div_pos 3 beta three_pos hbeta
  have hg := Real.Gamma_pos_of_pos (show (0 : ℝ) < 1 / 2 by norm_num)
  have hL : 0 < 2 * alpha beta sigma * Real.Gamma (1 / beta) / beta := by positivity
  have hL2 : 0 < 2 * alpha 2 sigma * Real.Gamma (1 / 2) / 2 := by positivity
  have hratio : beta * alpha 2 sigma / (2 * alpha beta sigma) * (Real.Gamma (1 / 2) / Real.Gamma (1 / beta))
      = 2 * alpha 2 sigma * Real.Gamma (1 / 2) / 2 / (2 * alpha beta sigma * Real.Gamma (1 / beta) / beta) := by
    generalize alpha beta sigma = a at *
    generalize alpha 2 sigma = a2 at *
    generalize Real.Gamma (1 / beta) = g1 at *
    generalize Real.Gamma (1 / 2) = g at *
    field_ring
  have e : ((2 : ℝ) + 1) / beta = 3 / beta := by norm_num
  have hmoment : (alpha beta sigma / alpha 2 sigma) ^ (2 : ℝ) * (Real.Gamma (3 / beta) / Real.Gamma (1 / beta))
      = 1 / 2 := by
    rw [Real.rpow_two, div_pow, alpha_sq beta sigma hbeta, alpha_gaussian_sq]
    generalize Real.Gamma (1 / beta) = g1 at *
    generalize Real.Gamma (3 / beta) = g3 at *
    field_ring
  rw [kl_entropy_identity beta sigma hbeta hsigma, ← entropyNats_gaussian sigma hsigma]
  unfold klNats entropyNats
  rw [hratio, Real.log_div hL2.ne' hL.ne', e, hmoment]
  ring

/-- The divergence to the Gaussian of equal variance is nonnegative. -/
theorem klToGaussianNats_nonneg (beta : ℝ) (hbeta : 0 < beta) :
    0 ≤ klToGaussianNats beta := by
  rw [← klNats_gaussian beta 1 hbeta one_pos]
  exact klNats_nonneg beta 2 1 1 hbeta (by norm_num) one_pos one_pos

/-- The same in bits. -/
theorem klToGaussianBits_nonneg (beta : ℝ) (hbeta : 0 < beta) :
    0 ≤ klToGaussianBits beta := by
  unfold klToGaussianBits
  exact div_nonneg (klToGaussianNats_nonneg beta hbeta) log_two_bounds.1.le

/-- Entropy of a GGD is at most the Gaussian's, in bits [CoverThomas2006, thm 8.6.5]. -/
theorem entropyBits_le_gaussian (beta sigma : ℝ) (hbeta : 0 < beta) (hsigma : 0 < sigma) :
    entropyBits beta sigma ≤ entropyBits 2 sigma := by
  have h := klToGaussianNats_nonneg beta hbeta
  rw [kl_entropy_identity beta sigma hbeta hsigma, ← entropyNats_gaussian sigma hsigma] at h
  unfold entropyBits
  exact div_le_div_of_nonneg_right (by linarith) log_two_bounds.1.le

end QuantGap
