import Mathlib.Analysis.SpecialFunctions.Gamma.BohrMollerup
import Mathlib.Analysis.SpecialFunctions.Pow.Real
import Mathlib.Tactic.Linarith
import Mathlib.Tactic.Positivity
import QuantGap.Tactic

/-!
# The generalized Gaussian (GGD): closed forms

Exponent `beta` (2 Gaussian, 1 Laplace), standard deviation `sigma`. Arguments are in the order of the Python
functions. Nats unless the name says bits. `QuantGap.GGDIntegral` relates these closed forms to the density.
-/

namespace QuantGap

/-- Scale of the GGD of standard deviation `sigma` [Nadarajah2005]. -/
noncomputable def alpha (beta sigma : ℝ) : ℝ :=
  sigma * Real.sqrt (Real.Gamma (1 / beta) / Real.Gamma (3 / beta))

/-- Density of the GGD [Nadarajah2005; BoxTiao1973]. -/
noncomputable def pdf (x beta sigma : ℝ) : ℝ :=
  beta / (2 * alpha beta sigma * Real.Gamma (1 / beta))
    * Real.exp (-((|x| / alpha beta sigma) ^ (beta : ℝ)))

/-- Absolute moment `E|X|^k`, k > -1 [Nadarajah2005]. -/
noncomputable def absMoment (k beta sigma : ℝ) : ℝ :=
  alpha beta sigma ^ (k : ℝ) * (Real.Gamma ((k + 1) / beta) / Real.Gamma (1 / beta))

/-- Variance: the second absolute moment. -/
noncomputable def variance (beta sigma : ℝ) : ℝ :=
  absMoment 2 beta sigma

/-- Kurtosis, dimensionless (3 for the Gaussian) [Nadarajah2005]. -/
noncomputable def kurtosis (beta : ℝ) : ℝ :=
  Real.Gamma (5 / beta) * Real.Gamma (1 / beta) / Real.Gamma (3 / beta) ^ 2

/-- Differential entropy in nats; its first term is in nats too [Nadarajah2005]. -/
noncomputable def entropyNats (beta sigma : ℝ) : ℝ :=
  1 / beta + Real.log (2 * alpha beta sigma * Real.Gamma (1 / beta) / beta)

/-- Differential entropy in bits. -/
noncomputable def entropyBits (beta sigma : ℝ) : ℝ :=
  entropyNats beta sigma / Real.log 2

/-- The entropy with its first term left in nats and the second in bits: an error, kept to state its size. -/
noncomputable def entropyMixedUnits (beta sigma : ℝ) : ℝ :=
  1 / beta - Real.log (beta / (2 * alpha beta sigma * Real.Gamma (1 / beta))) / Real.log 2

/-- Size of that error, `(log2 e - 1) / beta` bits. -/
noncomputable def natsForBitsError (beta : ℝ) : ℝ :=
  (1 / Real.log 2 - 1) / beta

/-- Entropy power, the variance of the Gaussian of equal entropy [Stam1959]. -/
noncomputable def entropyPower (beta sigma : ℝ) : ℝ :=
  2 * (alpha beta sigma * Real.Gamma (1 / beta) / beta) ^ 2 * Real.exp (2 / beta - 1) / Real.pi

/-- Fisher information of location, beta > 1/2. -/
noncomputable def fisherInformation (beta sigma : ℝ) : ℝ :=
  beta ^ 2 * Real.Gamma (2 - 1 / beta) / (alpha beta sigma ^ 2 * Real.Gamma (1 / beta))

/-- KL divergence, in nats, from the GGD to the Gaussian of equal variance. -/
noncomputable def klToGaussianNats (beta : ℝ) : ℝ :=
  (1 + Real.log (2 * Real.pi)) / 2 - entropyNats beta 1

/-- KL divergence, in bits, from the GGD to the Gaussian of equal variance. -/
noncomputable def klToGaussianBits (beta : ℝ) : ℝ :=
  klToGaussianNats beta / Real.log 2

/-- KL divergence, in nats, between two GGDs [Do2002]. -/
noncomputable def klNats (beta1 beta2 sigma1 sigma2 : ℝ) : ℝ :=
  Real.log (beta1 * alpha beta2 sigma2 / (beta2 * alpha beta1 sigma1)
      * (Real.Gamma (1 / beta2) / Real.Gamma (1 / beta1)))
    + (alpha beta1 sigma1 / alpha beta2 sigma2) ^ (beta2 : ℝ)
      * (Real.Gamma ((beta2 + 1) / beta1) / Real.Gamma (1 / beta1))
    - 1 / beta1

/-- The Gamma function is positive at `k / beta`. -/
theorem gamma_div_pos (k beta : ℝ) (hk : 0 < k) (hbeta : 0 < beta) :
    0 < Real.Gamma (k / beta) :=
  Real.Gamma_pos_of_pos (div_pos hk hbeta)

/-- The scale is positive. -/
theorem alpha_pos (beta sigma : ℝ) (hbeta : 0 < beta) (hsigma : 0 < sigma) :
    0 < alpha beta sigma := by
  unfold alpha
  exact mul_pos hsigma (Real.sqrt_pos.mpr
    (div_pos (gamma_div_pos 1 beta one_pos hbeta) (gamma_div_pos 3 beta three_pos hbeta)))

/-- The square of the scale. -/
theorem alpha_sq (beta sigma : ℝ) (hbeta : 0 < beta) :
    alpha beta sigma ^ 2 = sigma ^ 2 * (Real.Gamma (1 / beta) / Real.Gamma (3 / beta)) := by
  have h1 := gamma_div_pos 1 beta one_pos hbeta
  have h3 := gamma_div_pos 3 beta three_pos hbeta
  unfold alpha
  rw [mul_pow, Real.sq_sqrt (div_pos h1 h3).le]

/-- The scale is proportional to the standard deviation. -/
theorem alpha_scale (beta sigma : ℝ) (hbeta : 0 < beta) (hsigma : 0 < sigma) :
    alpha beta sigma = sigma * alpha beta 1 := by
  unfold alpha
  ring

/-- Absolute moments are positive. -/
theorem absMoment_pos (k beta sigma : ℝ) (hk : -1 < k) (hbeta : 0 < beta) (hsigma : 0 < sigma) :
    0 < absMoment k beta sigma := by
  have ha := alpha_pos beta sigma hbeta hsigma
  have h1 := gamma_div_pos 1 beta one_pos hbeta
  have hk1 := gamma_div_pos (k + 1) beta (by linarith) hbeta
  unfold absMoment
  exact mul_pos (Real.rpow_pos_of_pos ha k) (div_pos hk1 h1)

/-- The density is positive. -/
theorem pdf_pos (x beta sigma : ℝ) (hbeta : 0 < beta) (hsigma : 0 < sigma) :
    0 < pdf x beta sigma := by
  have ha := alpha_pos beta sigma hbeta hsigma
  have h1 := gamma_div_pos 1 beta one_pos hbeta
  unfold pdf
  positivity

/-- The variance is `sigma ^ 2`. -/
theorem variance_eq (beta sigma : ℝ) (hbeta : 0 < beta) :
    variance beta sigma = sigma ^ 2 := by
  have h1 := gamma_div_pos 1 beta one_pos hbeta
  have h3 := gamma_div_pos 3 beta three_pos hbeta
  have e : ((2 : ℝ) + 1) / beta = 3 / beta := by norm_num
  unfold variance absMoment
  rw [e, Real.rpow_two, alpha_sq beta sigma hbeta]
  generalize Real.Gamma (1 / beta) = g1 at *
  generalize Real.Gamma (3 / beta) = g3 at *
  field_ring

/-- Kurtosis is the fourth moment over the squared second. -/
theorem kurtosis_eq_moments (beta sigma : ℝ) (hbeta : 0 < beta) (hsigma : 0 < sigma) :
    kurtosis beta = absMoment 4 beta sigma / absMoment 2 beta sigma ^ 2 := by
  have h1 := gamma_div_pos 1 beta one_pos hbeta
  have h3 := gamma_div_pos 3 beta three_pos hbeta
  have ha := alpha_pos beta sigma hbeta hsigma
  have e4 : ((4 : ℝ) + 1) / beta = 5 / beta := by norm_num
  have e2 : ((2 : ℝ) + 1) / beta = 3 / beta := by norm_num
  have p4 : alpha beta sigma ^ (4 : ℝ) = alpha beta sigma ^ 4 := by
    exact_mod_cast Real.rpow_natCast (alpha beta sigma) 4
  unfold kurtosis absMoment
  rw [e4, e2, Real.rpow_two, p4]
  generalize alpha beta sigma = a at *
  generalize Real.Gamma (1 / beta) = g1 at *
  generalize Real.Gamma (3 / beta) = g3 at *
  generalize Real.Gamma (5 / beta) = g5 at *
  field_ring

/-- Entropy of a scaled source. -/
theorem entropyNats_scale (beta sigma : ℝ) (hbeta : 0 < beta) (hsigma : 0 < sigma) :
    entropyNats beta sigma = entropyNats beta 1 + Real.log sigma := by
  have ha := alpha_pos beta 1 hbeta one_pos
  have h1 := gamma_div_pos 1 beta one_pos hbeta
  have hpos : 0 < 2 * alpha beta 1 * Real.Gamma (1 / beta) / beta := by positivity
  have e : 2 * (sigma * alpha beta 1) * Real.Gamma (1 / beta) / beta
      = sigma * (2 * alpha beta 1 * Real.Gamma (1 / beta) / beta) := by ring
  unfold entropyNats
  rw [alpha_scale beta sigma hbeta hsigma, e, Real.log_mul hsigma.ne' hpos.ne']
  ring

/-- What mixing nats and bits costs: the entropy comes out `(log2 e - 1) / beta` bits too small. -/
theorem entropyBits_sub_mixed (beta sigma : ℝ) (hbeta : 0 < beta) (hsigma : 0 < sigma) :
    entropyBits beta sigma - entropyMixedUnits beta sigma = natsForBitsError beta := by
  have e : Real.log (2 * alpha beta sigma * Real.Gamma (1 / beta) / beta)
      = -Real.log (beta / (2 * alpha beta sigma * Real.Gamma (1 / beta))) := by
    rw [← Real.log_inv, inv_div]
  unfold entropyBits entropyNats entropyMixedUnits natsForBitsError
  rw [e]
  ring

/-- The natural logarithm of 2 lies between 0 and 1. -/
theorem log_two_bounds :
    0 < Real.log 2 ∧ Real.log 2 < 1 := by
  refine ⟨Real.log_pos (by norm_num), ?_⟩
  have h := Real.log_lt_sub_one_of_pos (show (0 : ℝ) < 2 by norm_num) (by norm_num)
  linarith

/-- That error is positive. -/
theorem natsForBitsError_pos (beta : ℝ) (hbeta : 0 < beta) :
    0 < natsForBitsError beta := by
  obtain ⟨h0, h1⟩ := log_two_bounds
  have h : 1 < 1 / Real.log 2 := by
    rw [lt_div_iff₀ h0]
    linarith
  unfold natsForBitsError
  exact div_pos (by linarith) hbeta

/-- The KL divergence to the Gaussian is the difference of the entropies, whatever the variance. -/
theorem kl_entropy_identity (beta sigma : ℝ) (hbeta : 0 < beta) (hsigma : 0 < sigma) :
    klToGaussianNats beta = (1 + Real.log (2 * Real.pi * sigma ^ 2)) / 2 - entropyNats beta sigma := by
  have hpi : 0 < 2 * Real.pi := by positivity
  have hsq : 0 < sigma ^ 2 := by positivity
  have e : Real.log (sigma ^ 2) = 2 * Real.log sigma := by
    rw [sq, Real.log_mul hsigma.ne' hsigma.ne']
    ring
  unfold klToGaussianNats
  rw [entropyNats_scale beta sigma hbeta hsigma, Real.log_mul hpi.ne' hsq.ne', e]
  ring

/-- Logarithm of the density. -/
theorem log_pdf (x beta sigma : ℝ) (hbeta : 0 < beta) (hsigma : 0 < sigma) :
    Real.log (pdf x beta sigma)
      = Real.log (beta / (2 * alpha beta sigma * Real.Gamma (1 / beta)))
        - (|x| / alpha beta sigma) ^ (beta : ℝ) := by
  have ha := alpha_pos beta sigma hbeta hsigma
  have h1 := gamma_div_pos 1 beta one_pos hbeta
  have hc : 0 < beta / (2 * alpha beta sigma * Real.Gamma (1 / beta)) := by positivity
  unfold pdf
  rw [Real.log_mul hc.ne' (Real.exp_pos _).ne', Real.log_exp]
  ring

/-- The entropy power is `exp (2 h) / (2 pi e)`. -/
theorem entropyPower_eq (beta sigma : ℝ) (hbeta : 0 < beta) (hsigma : 0 < sigma) :
    entropyPower beta sigma
      = Real.exp (2 * entropyNats beta sigma) / (2 * Real.pi * Real.exp 1) := by
  have ha := alpha_pos beta sigma hbeta hsigma
  have h1 := gamma_div_pos 1 beta one_pos hbeta
  have hpi := Real.pi_pos
  have he := Real.exp_pos (1 : ℝ)
  have hL : 0 < 2 * alpha beta sigma * Real.Gamma (1 / beta) / beta := by positivity
  unfold entropyPower entropyNats
  have e : 2 * (1 / beta + Real.log (2 * alpha beta sigma * Real.Gamma (1 / beta) / beta))
      = 2 / beta + (Real.log (2 * alpha beta sigma * Real.Gamma (1 / beta) / beta)
        + Real.log (2 * alpha beta sigma * Real.Gamma (1 / beta) / beta)) := by ring
  rw [e, Real.exp_add, Real.exp_add, Real.exp_log hL, Real.exp_sub]
  generalize alpha beta sigma = a at *
  generalize Real.Gamma (1 / beta) = g1 at *
  generalize Real.exp (2 / beta) = E at *
  generalize Real.exp 1 = c at *
  generalize Real.pi = q at *
  field_ring

/-- Midpoint log-convexity of the Gamma function. -/
theorem gamma_midpoint (s t : ℝ) (hs : 0 < s) (ht : 0 < t) :
    Real.Gamma ((s + t) / 2) ^ 2 ≤ Real.Gamma s * Real.Gamma t := by
  have hgs := Real.Gamma_pos_of_pos hs
  have hgt := Real.Gamma_pos_of_pos ht
  have hm := Real.Gamma_pos_of_pos (show 0 < (s + t) / 2 by linarith)
  have h := Real.Gamma_mul_add_mul_le_rpow_Gamma_mul_rpow_Gamma hs ht
    (show (0 : ℝ) < 1 / 2 by norm_num) (show (0 : ℝ) < 1 / 2 by norm_num) (by norm_num)
  have e : (1 / 2 : ℝ) * s + 1 / 2 * t = (s + t) / 2 := by ring
  rw [e, ← Real.mul_rpow hgs.le hgt.le, ← Real.sqrt_eq_rpow] at h
  calc Real.Gamma ((s + t) / 2) ^ 2
      ≤ Real.sqrt (Real.Gamma s * Real.Gamma t) ^ 2 := pow_le_pow_left₀ hm.le h 2
    _ = Real.Gamma s * Real.Gamma t := Real.sq_sqrt (mul_pos hgs hgt).le

/-- Cramer-Rao for the GGD: `1 <= J sigma^2` [CoverThomas2006, thm 11.10.1]. Here from log-convexity of Gamma. -/
theorem one_le_fisher_mul_variance (beta sigma : ℝ) (hbeta : 1 / 2 < beta) (hsigma : 0 < sigma) :
    1 ≤ fisherInformation beta sigma * sigma ^ 2 := by
  have hb : 0 < beta := by linarith
  have hu : 0 < 1 / beta := by positivity
  have hu2 : 1 / beta < 2 := by
    rw [div_lt_iff₀ hb]
    linarith
  have h1 := gamma_div_pos 1 beta one_pos hb
  have h3 := gamma_div_pos 3 beta three_pos hb
  have h2 := Real.Gamma_pos_of_pos (show 0 < 2 - 1 / beta by linarith)
  have hmid := gamma_midpoint (2 - 1 / beta) (3 / beta) (by linarith) (by positivity)
  have e : (2 - 1 / beta + 3 / beta) / 2 = 1 / beta + 1 := by ring
  rw [e, Real.Gamma_add_one hu.ne'] at hmid
  unfold fisherInformation
  rw [alpha_sq beta sigma hb]
  generalize Real.Gamma (2 - 1 / beta) = g2 at *
  generalize Real.Gamma (1 / beta) = g1 at *
  generalize Real.Gamma (3 / beta) = g3 at *
  have key : beta ^ 2 * g2 / (sigma ^ 2 * (g1 / g3) * g1) * sigma ^ 2 = beta ^ 2 * (g2 * g3) / g1 ^ 2 := by
    field_ring
  have e2 : beta ^ 2 * (1 / beta * g1) ^ 2 = g1 ^ 2 := by field_ring
  have hmul := mul_le_mul_of_nonneg_left hmid (sq_nonneg beta)
  rw [key, le_div_iff₀ (by positivity)]
  linarith

/-- Kurtosis is at least the uniform's, 9/5; the limit beta -> infinity. From log-convexity of Gamma. -/
theorem kurtosis_ge (beta : ℝ) (hbeta : 0 < beta) :
    9 / 5 ≤ kurtosis beta := by
  have h1 := gamma_div_pos 1 beta one_pos hbeta
  have h3 := gamma_div_pos 3 beta three_pos hbeta
  have h5 := gamma_div_pos 5 beta (by norm_num) hbeta
  have u1 : 0 < 1 / beta := by positivity
  have u3 : 0 < 3 / beta := by positivity
  have u5 : 0 < 5 / beta := by positivity
  have hmid := gamma_midpoint (5 / beta + 1) (1 / beta + 1) (by linarith) (by linarith)
  have e : (5 / beta + 1 + (1 / beta + 1)) / 2 = 3 / beta + 1 := by ring
  rw [e, Real.Gamma_add_one u3.ne', Real.Gamma_add_one u5.ne', Real.Gamma_add_one u1.ne'] at hmid
  unfold kurtosis
  generalize Real.Gamma (1 / beta) = g1 at *
  generalize Real.Gamma (3 / beta) = g3 at *
  generalize Real.Gamma (5 / beta) = g5 at *
  have hsq : 0 ≤ beta ^ 2 / 5 := by positivity
  have hmul := mul_le_mul_of_nonneg_left hmid hsq
  have e1 : beta ^ 2 / 5 * (3 / beta * g3) ^ 2 = 9 / 5 * g3 ^ 2 := by field_ring
  have e2 : beta ^ 2 / 5 * (5 / beta * g5 * (1 / beta * g1)) = g5 * g1 := by field_ring
  rw [le_div_iff₀ (by positivity)]
  linarith

/-- Kurtosis decreases in the exponent [BoxTiao1973]. Statement only. -/
theorem kurtosis_antitone (beta1 beta2 : ℝ) (hbeta1 : 0 < beta1) (hle : beta1 ≤ beta2) :
    kurtosis beta2 ≤ kurtosis beta1 := by
  sorry

/-- Stam's inequality for the GGD: entropy power times Fisher information is at least 1 [Stam1959].
Statement only. -/
theorem one_le_entropyPower_mul_fisher (beta sigma : ℝ) (hbeta : 1 / 2 < beta) (hsigma : 0 < sigma) :
    1 ≤ entropyPower beta sigma * fisherInformation beta sigma := by
  sorry

end QuantGap
