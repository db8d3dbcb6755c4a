import QuantGap.GGDIntegral
import QuantGap.Shannon

/-!
# Scalar quantization at high rate
-/

namespace QuantGap

/-- Panter-Dite constant: the limit of `N^2 D` for the best `N`-level quantizer, in units of the source squared
[PanterDite1951]. -/
noncomputable def panterDite (beta sigma : ℝ) : ℝ :=
  alpha beta sigma ^ 2 * (27 : ℝ) ^ (1 / beta : ℝ) * Real.Gamma (1 / beta) ^ 2 / (3 * beta ^ 2)

/-- Entropy-coded uniform quantization against Shannon's bound, in bits, as D -> 0 [GishPierce1968]. -/
noncomputable def gishPierce : ℝ :=
  (1 + Real.log (2 * Real.pi / 12)) / (2 * Real.log 2)

/-- Loss in bits of a lattice of normalized second moment `G`. -/
noncomputable def spaceFillingLoss (G : ℝ) : ℝ :=
  (1 + Real.log (2 * Real.pi * G)) / (2 * Real.log 2)

/-- Mean squared error of the levels `l`, each point mapped to the nearest. -/
noncomputable def quantizerMse (n : ℕ) (l : Fin n → ℝ) (beta sigma : ℝ) : ℝ :=
  ∫ x : ℝ, (⨅ i : Fin n, (x - l i) ^ 2) * pdf x beta sigma

/-- The interval has the Gish-Pierce loss. -/
theorem spaceFillingLoss_interval :
    spaceFillingLoss (1 / 12) = gishPierce := by
  have e : 2 * Real.pi * (1 / 12) = 2 * Real.pi / 12 := by ring
  unfold spaceFillingLoss gishPierce
  rw [e]

/-- A ball of high dimension loses nothing. -/
theorem spaceFillingLoss_sphere :
    spaceFillingLoss (1 / (2 * Real.pi * Real.exp 1)) = 0 := by
  have hp := Real.pi_pos
  have he := Real.exp_pos (1 : ℝ)
  have e : 2 * Real.pi * (1 / (2 * Real.pi * Real.exp 1)) = (Real.exp 1)⁻¹ := by
    generalize Real.exp 1 = c at *
    generalize Real.pi = q at *
    field_ring
  unfold spaceFillingLoss
  rw [e, Real.log_inv, Real.log_exp, add_neg_cancel, zero_div]

/-- Bound (b') is the Gish-Pierce constant: the uniform law's divergence, the interval's loss. -/
theorem gapLogConcave_eq_gishPierce :
    gapLogConcave = gishPierce := by
  have e : Real.pi / 6 = 2 * Real.pi / 12 := by ring
  unfold gapLogConcave gishPierce
  rw [e]

/-- The cube of the integral, with `t ^ 3 = T`. -/
theorem panterDite_algebra (b a g c t T : ℝ) (hb : 0 < b) (ha : 0 < a) (hg : 0 < g)
    (hc : c ^ 3 = b / (2 * a * g)) (ht : t ^ 3 = T) :
    (c * (2 * (a * t / b * g))) ^ 3 / 12 = a ^ 2 * T * g ^ 2 / (3 * b ^ 2) := by
  have e : (c * (2 * (a * t / b * g))) ^ 3 = c ^ 3 * (8 * (a ^ 3 * t ^ 3 / b ^ 3 * g ^ 3)) := by ring
  rw [e, hc, ht]
  field_ring

/-- The constant is the integral of Panter and Dite [PanterDite1951]. -/
theorem panterDite_eq_integral (beta sigma : ℝ) (hbeta : 0 < beta) (hsigma : 0 < sigma) :
    (∫ x : ℝ, pdf x beta sigma ^ (1 / 3 : ℝ)) ^ 3 / 12 = panterDite beta sigma := by
  have hb : beta ≠ 0 := hbeta.ne'
  have ha := alpha_pos beta sigma hbeta hsigma
  have h1 := gamma_div_pos 1 beta one_pos hbeta
  have hc : 0 < beta / (2 * alpha beta sigma * Real.Gamma (1 / beta)) := by positivity
  have ht : 0 < (3 : ℝ) ^ (1 / beta) := Real.rpow_pos_of_pos (by norm_num) (1 / beta)
  have hat : 0 < alpha beta sigma * (3 : ℝ) ^ (1 / beta) := mul_pos ha ht
  have htb : ((3 : ℝ) ^ (1 / beta)) ^ beta = 3 := by
    rw [← Real.rpow_mul (by norm_num : (0 : ℝ) ≤ 3), one_div_mul_cancel hb, Real.rpow_one]
  have hc3 : ((beta / (2 * alpha beta sigma * Real.Gamma (1 / beta))) ^ (1 / 3 : ℝ)) ^ 3
      = beta / (2 * alpha beta sigma * Real.Gamma (1 / beta)) := by
    have e3 : (1 / 3 : ℝ) * ((3 : ℕ) : ℝ) = 1 := by norm_num
    rw [← Real.rpow_natCast, ← Real.rpow_mul hc.le, e3, Real.rpow_one]
  have ht3 : ((3 : ℝ) ^ (1 / beta)) ^ 3 = (27 : ℝ) ^ (1 / beta) := by
    have e27 : (3 : ℝ) ^ ((3 : ℕ) : ℝ) = 27 := by
      rw [Real.rpow_natCast]
      norm_num
    rw [← Real.rpow_natCast, ← Real.rpow_mul (by norm_num : (0 : ℝ) ≤ 3), mul_comm,
      Real.rpow_mul (by norm_num : (0 : ℝ) ≤ 3), e27]
  have hfun : (fun x : ℝ => pdf x beta sigma ^ (1 / 3 : ℝ))
      = fun x : ℝ => (beta / (2 * alpha beta sigma * Real.Gamma (1 / beta))) ^ (1 / 3 : ℝ)
        * (|x| ^ (0 : ℝ) * Real.exp (-((|x| / (alpha beta sigma * (3 : ℝ) ^ (1 / beta))) ^ beta))) := by
    funext x
    have hx : 0 ≤ |x| / alpha beta sigma := div_nonneg (abs_nonneg x) ha.le
    have e : (|x| / (alpha beta sigma * (3 : ℝ) ^ (1 / beta))) ^ beta = (|x| / alpha beta sigma) ^ beta / 3 := by
      rw [← div_div, Real.div_rpow hx ht.le, htb]
    have eE : Real.exp (-((|x| / alpha beta sigma) ^ beta)) ^ (1 / 3 : ℝ)
        = Real.exp (-((|x| / alpha beta sigma) ^ beta / 3)) := by
      rw [← Real.exp_mul]
      congr 1
      ring
    unfold pdf
    rw [Real.mul_rpow hc.le (Real.exp_pos _).le, eE, e, Real.rpow_zero, one_mul]
  have habs : ∫ x : ℝ, |x| ^ (0 : ℝ) * Real.exp (-((|x| / (alpha beta sigma * (3 : ℝ) ^ (1 / beta))) ^ beta))
      = 2 * ∫ x in Set.Ioi (0 : ℝ), x ^ (0 : ℝ)
        * Real.exp (-((x / (alpha beta sigma * (3 : ℝ) ^ (1 / beta))) ^ beta)) :=
    integral_comp_abs (f := fun t : ℝ => t ^ (0 : ℝ)
      * Real.exp (-((t / (alpha beta sigma * (3 : ℝ) ^ (1 / beta))) ^ beta)))
  rw [hfun, MeasureTheory.integral_const_mul, habs,
    integral_Ioi_rpow_mul_exp beta (alpha beta sigma * (3 : ℝ) ^ (1 / beta)) 0 hbeta hat (by norm_num),
    zero_add, Real.rpow_one]
  exact panterDite_algebra beta (alpha beta sigma) (Real.Gamma (1 / beta)) _ _ _ hbeta ha h1 hc3 ht3

/-- No quantizer of `n` levels has less error than Shannon's bound at `log2 n` bits [Shannon1959].
Statement only. -/
theorem quantizerMse_ge_slb (n : ℕ) (l : Fin n → ℝ) (beta sigma : ℝ) (hn : 0 < n) (hbeta : 0 < beta)
    (hsigma : 0 < sigma) :
    distortionLowerBound (entropyBits beta sigma) (Real.log (n : ℝ) / Real.log 2) ≤ quantizerMse n l beta sigma := by
  sorry

end QuantGap
