import QuantGap.EntropyMaximal
import QuantGap.Shannon

/-!
# Shannon's bounds for the GGD

The statements of `QuantGap.Shannon` with the entropy and the Fisher information of a GGD, as the registry of claims
has them.
-/

namespace QuantGap

/-- Shannon's bound is tight for the Gaussian [Shannon1959; CoverThomas2006]. -/
theorem slb_gaussian_tight (D sigma : ℝ) (hD : 0 < D) (hsigma : 0 < sigma) :
    shannonLowerBound (entropyBits 2 sigma) D = gaussianRate D sigma := by
  have e := gaussianRate_sub_shannonLowerBound (entropyBits 2 sigma) D sigma hD hsigma
  have hz : gapKl (entropyBits 2 sigma) sigma = 0 := by
    unfold gapKl entropyBits
    rw [entropyNats_gaussian sigma hsigma]
    ring
  linarith

/-- Shannon's bound lies below the Gaussian's rate [Shannon1959]. -/
theorem slb_le_gaussianRate (beta D sigma : ℝ) (hbeta : 0 < beta) (hD : 0 < D) (hsigma : 0 < sigma) :
    shannonLowerBound (entropyBits beta sigma) D ≤ gaussianRate D sigma := by
  have h := entropyBits_le_gaussian beta sigma hbeta hsigma
  rw [← slb_gaussian_tight D sigma hD hsigma]
  unfold shannonLowerBound
  linarith

/-- Bound (b) of a GGD is its divergence to the Gaussian. -/
theorem gapKl_ggd (beta sigma : ℝ) (hbeta : 0 < beta) (hsigma : 0 < sigma) :
    gapKl (entropyBits beta sigma) sigma = klToGaussianBits beta := by
  unfold gapKl entropyBits klToGaussianBits
  rw [kl_entropy_identity beta sigma hbeta hsigma]
  ring

/-- The Fisher information is positive. -/
theorem fisherInformation_pos (beta sigma : ℝ) (hbeta : 1 / 2 < beta) (hsigma : 0 < sigma) :
    0 < fisherInformation beta sigma := by
  have hb : 0 < beta := by linarith
  have hu2 : 1 / beta < 2 := by
    rw [div_lt_iff₀ hb]
    linarith
  have ha := alpha_pos beta sigma hb hsigma
  have h1 := gamma_div_pos 1 beta one_pos hb
  have h2 := Real.Gamma_pos_of_pos (show 0 < 2 - 1 / beta by linarith)
  unfold fisherInformation
  positivity

/-- (e) <= (d) for the GGD. -/
theorem ggd_refined_le_log (beta D sigma : ℝ) (hbeta : 1 / 2 < beta) (hD : 0 < D) (hsigma : 0 < sigma)
    (hDs : D < sigma ^ 2) :
    gapFisherRefined D (fisherInformation beta sigma) sigma ≤ gapFisherLog D (fisherInformation beta sigma) :=
  gapFisherRefined_le_log D (fisherInformation beta sigma) sigma hD hsigma hDs
    (fisherInformation_pos beta sigma hbeta hsigma)

/-- (d) <= (c) for the GGD. -/
theorem ggd_log_le_linear (beta D sigma : ℝ) (hbeta : 1 / 2 < beta) (hD : 0 < D) (hsigma : 0 < sigma) :
    gapFisherLog D (fisherInformation beta sigma) ≤ gapFisherLinear D (fisherInformation beta sigma) :=
  gapFisherLog_le_linear D (fisherInformation beta sigma) hD (fisherInformation_pos beta sigma hbeta hsigma)

/-- The divergence of a log-concave GGD is at most the uniform's [Madiman2018]. Statement only. -/
theorem kl_le_gapLogConcave (beta : ℝ) (hbeta : 1 ≤ beta) :
    klToGaussianBits beta ≤ gapLogConcave := by
  sorry

end QuantGap
