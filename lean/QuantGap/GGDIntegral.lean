import Mathlib.Analysis.Convex.SpecificFunctions.Basic
import Mathlib.MeasureTheory.Integral.Gamma
import Mathlib.MeasureTheory.Measure.Lebesgue.Integral
import QuantGap.GGD

/-!
# The generalized Gaussian: integrals of its density

Integral 1, absolute moments, variance, Fisher information, entropy, KL divergence, log-concavity.
-/

namespace QuantGap

/-- The integral over the half line that every moment comes from. -/
theorem integral_Ioi_rpow_mul_exp (beta a k : ℝ) (hbeta : 0 < beta) (ha : 0 < a) (hk : -1 < k) :
    ∫ x in Set.Ioi (0 : ℝ), x ^ (k : ℝ) * Real.exp (-((x / a) ^ (beta : ℝ)))
      = a ^ (k + 1 : ℝ) / beta * Real.Gamma ((k + 1) / beta) := by
  have hb : beta ≠ 0 := hbeta.ne'
  have hpow : (a ^ (-beta)) ^ (-(k + 1) / beta) = a ^ (k + 1) := by
    have e : -beta * (-(k + 1) / beta) = k + 1 := by field_ring
    rw [← Real.rpow_mul ha.le, e]
  have hcongr : ∫ x in Set.Ioi (0 : ℝ), x ^ k * Real.exp (-((x / a) ^ beta))
      = ∫ x in Set.Ioi (0 : ℝ), x ^ k * Real.exp (-(a ^ (-beta)) * x ^ beta) := by
    refine MeasureTheory.setIntegral_congr_fun measurableSet_Ioi (fun x hx => ?_)
    have hx0 : 0 < x := hx
    have hexp : -((x / a) ^ beta) = -(a ^ (-beta)) * x ^ beta := by
      rw [Real.div_rpow hx0.le ha.le, Real.rpow_neg ha.le]
      ring
    simp only [hexp]
  rw [hcongr, integral_rpow_mul_exp_neg_mul_rpow hbeta hk (Real.rpow_pos_of_pos ha (-beta)), hpow]
  ring

/-- The cancellation in the moments, with `g = Gamma (1/beta)`. -/
theorem moment_algebra (b a g G A : ℝ) (hb : 0 < b) (ha : 0 < a) (hg : 0 < g) :
    2 * (b / (2 * a * g) * (A * a / b * G)) = A * (G / g) := by
  field_ring

/-- Absolute moments [Nadarajah2005]. -/
theorem integral_abs_rpow_mul_pdf (k beta sigma : ℝ) (hk : -1 < k) (hbeta : 0 < beta) (hsigma : 0 < sigma) :
    ∫ x : ℝ, |x| ^ (k : ℝ) * pdf x beta sigma = absMoment k beta sigma := by
  have ha := alpha_pos beta sigma hbeta hsigma
  have h1 := gamma_div_pos 1 beta one_pos hbeta
  have hfun : (fun x : ℝ => |x| ^ k * pdf x beta sigma)
      = fun x : ℝ => beta / (2 * alpha beta sigma * Real.Gamma (1 / beta))
        * (|x| ^ k * Real.exp (-((|x| / alpha beta sigma) ^ beta))) := by
    funext x
    unfold pdf
    ring
  have habs : ∫ x : ℝ, |x| ^ k * Real.exp (-((|x| / alpha beta sigma) ^ beta))
      = 2 * ∫ x in Set.Ioi (0 : ℝ), x ^ k * Real.exp (-((x / alpha beta sigma) ^ beta)) :=
    integral_comp_abs (f := fun t : ℝ => t ^ k * Real.exp (-((t / alpha beta sigma) ^ beta)))
  rw [hfun, MeasureTheory.integral_const_mul, habs,
    integral_Ioi_rpow_mul_exp beta (alpha beta sigma) k hbeta ha hk, Real.rpow_add_one ha.ne' k]
  unfold absMoment
  have halg := moment_algebra beta (alpha beta sigma) (Real.Gamma (1 / beta)) (Real.Gamma ((k + 1) / beta))
    (alpha beta sigma ^ k) hbeta ha h1
  rw [← halg]
  ring

/-- The density has integral 1. -/
theorem integral_pdf (beta sigma : ℝ) (hbeta : 0 < beta) (hsigma : 0 < sigma) :
    ∫ x : ℝ, pdf x beta sigma = 1 := by
  have h1 := (gamma_div_pos 1 beta one_pos hbeta).ne'
  have h := integral_abs_rpow_mul_pdf 0 beta sigma (by norm_num) hbeta hsigma
  simp only [Real.rpow_zero, one_mul] at h
  rw [h]
  unfold absMoment
  rw [Real.rpow_zero, zero_add, div_self h1, one_mul]

/-- The second moment of the density is `sigma ^ 2`. -/
theorem integral_sq_mul_pdf (beta sigma : ℝ) (hbeta : 0 < beta) (hsigma : 0 < sigma) :
    ∫ x : ℝ, x ^ 2 * pdf x beta sigma = sigma ^ 2 := by
  have h := integral_abs_rpow_mul_pdf 2 beta sigma (by norm_num) hbeta hsigma
  simp only [Real.rpow_two, sq_abs] at h
  rw [h]
  exact variance_eq beta sigma hbeta

/-- Fisher information: the mean square of the score `beta/alpha |x/alpha|^(beta-1)`. -/
theorem integral_score_sq_mul_pdf (beta sigma : ℝ) (hbeta : 1 / 2 < beta) (hsigma : 0 < sigma) :
    ∫ x : ℝ, (beta / alpha beta sigma) ^ 2 * ((|x| / alpha beta sigma) ^ (2 * beta - 2 : ℝ) * pdf x beta sigma)
      = fisherInformation beta sigma := by
  have hb : 0 < beta := by linarith
  have ha := alpha_pos beta sigma hb hsigma
  have hA := Real.rpow_pos_of_pos ha (2 * beta - 2)
  have e : (2 * beta - 2 + 1) / beta = 2 - 1 / beta := by field_ring
  have hfun : (fun x : ℝ => (beta / alpha beta sigma) ^ 2
        * ((|x| / alpha beta sigma) ^ (2 * beta - 2) * pdf x beta sigma))
      = fun x : ℝ => ((beta / alpha beta sigma) ^ 2 / alpha beta sigma ^ (2 * beta - 2))
        * (|x| ^ (2 * beta - 2) * pdf x beta sigma) := by
    funext x
    rw [Real.div_rpow (abs_nonneg x) ha.le]
    ring
  rw [hfun, MeasureTheory.integral_const_mul,
    integral_abs_rpow_mul_pdf (2 * beta - 2) beta sigma (by linarith) hb hsigma]
  unfold absMoment fisherInformation
  rw [e]
  have h1 := gamma_div_pos 1 beta one_pos hb
  generalize alpha beta sigma ^ (2 * beta - 2) = A at *
  generalize alpha beta sigma = a at *
  generalize Real.Gamma (2 - 1 / beta) = g2 at *
  generalize Real.Gamma (1 / beta) = g1 at *
  field_ring

/-- `|x| ^ k` times the density is integrable: otherwise its integral would be 0. -/
theorem integrable_abs_rpow_mul_pdf (k beta sigma : ℝ) (hk : -1 < k) (hbeta : 0 < beta) (hsigma : 0 < sigma) :
    MeasureTheory.Integrable (fun x : ℝ => |x| ^ (k : ℝ) * pdf x beta sigma) := by
  by_contra h
  have h0 := MeasureTheory.integral_undef h
  rw [integral_abs_rpow_mul_pdf k beta sigma hk hbeta hsigma] at h0
  exact (absMoment_pos k beta sigma hk hbeta hsigma).ne' h0

/-- The density is integrable. -/
theorem integrable_pdf (beta sigma : ℝ) (hbeta : 0 < beta) (hsigma : 0 < sigma) :
    MeasureTheory.Integrable (fun x : ℝ => pdf x beta sigma) := by
  have h := integrable_abs_rpow_mul_pdf 0 beta sigma (by norm_num) hbeta hsigma
  simpa only [Real.rpow_zero, one_mul] using h

/-- One density times the logarithm of another, as a combination of moments. -/
theorem pdf_mul_log_pdf (x beta1 beta2 sigma1 sigma2 : ℝ) (hbeta1 : 0 < beta1) (hbeta2 : 0 < beta2)
    (hsigma1 : 0 < sigma1) (hsigma2 : 0 < sigma2) :
    pdf x beta1 sigma1 * Real.log (pdf x beta2 sigma2)
      = Real.log (beta2 / (2 * alpha beta2 sigma2 * Real.Gamma (1 / beta2))) * pdf x beta1 sigma1
        - 1 / alpha beta2 sigma2 ^ (beta2 : ℝ) * (|x| ^ (beta2 : ℝ) * pdf x beta1 sigma1) := by
  have ha := alpha_pos beta2 sigma2 hbeta2 hsigma2
  rw [log_pdf x beta2 sigma2 hbeta2 hsigma2, Real.div_rpow (abs_nonneg x) ha.le]
  ring

/-- One density times the logarithm of another is integrable. -/
theorem integrable_pdf_mul_log_pdf (beta1 beta2 sigma1 sigma2 : ℝ) (hbeta1 : 0 < beta1) (hbeta2 : 0 < beta2)
    (hsigma1 : 0 < sigma1) (hsigma2 : 0 < sigma2) :
    MeasureTheory.Integrable (fun x : ℝ => pdf x beta1 sigma1 * Real.log (pdf x beta2 sigma2)) := by
  have hp := integrable_pdf beta1 sigma1 hbeta1 hsigma1
  have hm := integrable_abs_rpow_mul_pdf beta2 beta1 sigma1 (by linarith) hbeta1 hsigma1
  simp only [pdf_mul_log_pdf _ beta1 beta2 sigma1 sigma2 hbeta1 hbeta2 hsigma1 hsigma2]
  exact (hp.const_mul _).sub (hm.const_mul _)

/-- The cross entropy of two GGDs, negated. -/
theorem integral_pdf_mul_log_pdf (beta1 beta2 sigma1 sigma2 : ℝ) (hbeta1 : 0 < beta1) (hbeta2 : 0 < beta2)
    (hsigma1 : 0 < sigma1) (hsigma2 : 0 < sigma2) :
    ∫ x : ℝ, pdf x beta1 sigma1 * Real.log (pdf x beta2 sigma2)
      = Real.log (beta2 / (2 * alpha beta2 sigma2 * Real.Gamma (1 / beta2)))
        - (alpha beta1 sigma1 / alpha beta2 sigma2) ^ (beta2 : ℝ)
          * (Real.Gamma ((beta2 + 1) / beta1) / Real.Gamma (1 / beta1)) := by
  have ha1 := alpha_pos beta1 sigma1 hbeta1 hsigma1
  have ha2 := alpha_pos beta2 sigma2 hbeta2 hsigma2
  have hp : MeasureTheory.Integrable (fun x : ℝ =>
      Real.log (beta2 / (2 * alpha beta2 sigma2 * Real.Gamma (1 / beta2))) * pdf x beta1 sigma1) :=
    (integrable_pdf beta1 sigma1 hbeta1 hsigma1).const_mul _
  have hm : MeasureTheory.Integrable (fun x : ℝ =>
      1 / alpha beta2 sigma2 ^ beta2 * (|x| ^ beta2 * pdf x beta1 sigma1)) :=
    (integrable_abs_rpow_mul_pdf beta2 beta1 sigma1 (by linarith) hbeta1 hsigma1).const_mul _
  simp only [pdf_mul_log_pdf _ beta1 beta2 sigma1 sigma2 hbeta1 hbeta2 hsigma1 hsigma2]
  rw [MeasureTheory.integral_sub hp hm, MeasureTheory.integral_const_mul, MeasureTheory.integral_const_mul,
    integral_pdf beta1 sigma1 hbeta1 hsigma1,
    integral_abs_rpow_mul_pdf beta2 beta1 sigma1 (by linarith) hbeta1 hsigma1,
    Real.div_rpow ha1.le ha2.le]
  unfold absMoment
  ring

/-- A GGD's moment of order `beta` is `alpha^beta / beta`. -/
theorem gamma_shift (beta : ℝ) (hbeta : 0 < beta) :
    Real.Gamma ((beta + 1) / beta) / Real.Gamma (1 / beta) = 1 / beta := by
  have h1 := gamma_div_pos 1 beta one_pos hbeta
  have hu : 0 < 1 / beta := by positivity
  have hb : beta ≠ 0 := hbeta.ne'
  have e : (beta + 1) / beta = 1 / beta + 1 := by field_ring
  rw [e, Real.Gamma_add_one hu.ne', mul_div_assoc, div_self h1.ne', mul_one]

/-- Differential entropy of the density is the closed form, in nats [Nadarajah2005]. -/
theorem integral_neg_pdf_mul_log_pdf (beta sigma : ℝ) (hbeta : 0 < beta) (hsigma : 0 < sigma) :
    -(∫ x : ℝ, pdf x beta sigma * Real.log (pdf x beta sigma)) = entropyNats beta sigma := by
  have ha := alpha_pos beta sigma hbeta hsigma
  have e : Real.log (2 * alpha beta sigma * Real.Gamma (1 / beta) / beta)
      = -Real.log (beta / (2 * alpha beta sigma * Real.Gamma (1 / beta))) := by
    rw [← Real.log_inv, inv_div]
  rw [integral_pdf_mul_log_pdf beta beta sigma sigma hbeta hbeta hsigma hsigma, gamma_shift beta hbeta,
    div_self ha.ne', Real.one_rpow]
  unfold entropyNats
  rw [e]
  ring

/-- The closed form of the divergence is the integral that defines it [Do2002]. -/
theorem integral_kl (beta1 beta2 sigma1 sigma2 : ℝ) (hbeta1 : 0 < beta1) (hbeta2 : 0 < beta2)
    (hsigma1 : 0 < sigma1) (hsigma2 : 0 < sigma2) :
    ∫ x : ℝ, (pdf x beta1 sigma1 * Real.log (pdf x beta1 sigma1)
        - pdf x beta1 sigma1 * Real.log (pdf x beta2 sigma2))
      = klNats beta1 beta2 sigma1 sigma2 := by
  have ha1 := alpha_pos beta1 sigma1 hbeta1 hsigma1
  have ha2 := alpha_pos beta2 sigma2 hbeta2 hsigma2
  have h1 := gamma_div_pos 1 beta1 one_pos hbeta1
  have h2 := gamma_div_pos 1 beta2 one_pos hbeta2
  have hc1 : 0 < beta1 / (2 * alpha beta1 sigma1 * Real.Gamma (1 / beta1)) := by positivity
  have hc2 : 0 < beta2 / (2 * alpha beta2 sigma2 * Real.Gamma (1 / beta2)) := by positivity
  have hratio : beta1 * alpha beta2 sigma2 / (beta2 * alpha beta1 sigma1)
        * (Real.Gamma (1 / beta2) / Real.Gamma (1 / beta1))
      = beta1 / (2 * alpha beta1 sigma1 * Real.Gamma (1 / beta1))
        / (beta2 / (2 * alpha beta2 sigma2 * Real.Gamma (1 / beta2))) := by
    generalize alpha beta1 sigma1 = a1 at *
    generalize alpha beta2 sigma2 = a2 at *
    generalize Real.Gamma (1 / beta1) = g1 at *
    generalize Real.Gamma (1 / beta2) = g2 at *
    field_ring
  rw [MeasureTheory.integral_sub
      (integrable_pdf_mul_log_pdf beta1 beta1 sigma1 sigma1 hbeta1 hbeta1 hsigma1 hsigma1)
      (integrable_pdf_mul_log_pdf beta1 beta2 sigma1 sigma2 hbeta1 hbeta2 hsigma1 hsigma2),
    integral_pdf_mul_log_pdf beta1 beta1 sigma1 sigma1 hbeta1 hbeta1 hsigma1 hsigma1,
    integral_pdf_mul_log_pdf beta1 beta2 sigma1 sigma2 hbeta1 hbeta2 hsigma1 hsigma2,
    gamma_shift beta1 hbeta1, div_self ha1.ne', Real.one_rpow]
  unfold klNats
  rw [hratio, Real.log_div hc1.ne' hc2.ne']
  ring

/-- Gibbs' inequality, pointwise. -/
theorem sub_le_mul_log_sub (p q : ℝ) (hp : 0 < p) (hq : 0 < q) :
    p - q ≤ p * Real.log p - p * Real.log q := by
  have h := Real.log_le_sub_one_of_pos (div_pos hq hp)
  rw [Real.log_div hq.ne' hp.ne'] at h
  have hmul := mul_le_mul_of_nonneg_left h hp.le
  have e : p * (q / p - 1) = q - p := by field_ring
  rw [e, mul_sub] at hmul
  linarith

/-- The divergence between two GGDs is nonnegative [CoverThomas2006]. -/
theorem klNats_nonneg (beta1 beta2 sigma1 sigma2 : ℝ) (hbeta1 : 0 < beta1) (hbeta2 : 0 < beta2)
    (hsigma1 : 0 < sigma1) (hsigma2 : 0 < sigma2) :
    0 ≤ klNats beta1 beta2 sigma1 sigma2 := by
  have hp1 := integrable_pdf beta1 sigma1 hbeta1 hsigma1
  have hp2 := integrable_pdf beta2 sigma2 hbeta2 hsigma2
  have hl1 := integrable_pdf_mul_log_pdf beta1 beta1 sigma1 sigma1 hbeta1 hbeta1 hsigma1 hsigma1
  have hl2 := integrable_pdf_mul_log_pdf beta1 beta2 sigma1 sigma2 hbeta1 hbeta2 hsigma1 hsigma2
  have hzero : ∫ x : ℝ, (pdf x beta1 sigma1 - pdf x beta2 sigma2) = 0 := by
    rw [MeasureTheory.integral_sub hp1 hp2, integral_pdf beta1 sigma1 hbeta1 hsigma1,
      integral_pdf beta2 sigma2 hbeta2 hsigma2, sub_self]
  have hmono : ∫ x : ℝ, (pdf x beta1 sigma1 - pdf x beta2 sigma2)
      ≤ ∫ x : ℝ, (pdf x beta1 sigma1 * Real.log (pdf x beta1 sigma1)
        - pdf x beta1 sigma1 * Real.log (pdf x beta2 sigma2)) :=
    MeasureTheory.integral_mono (hp1.sub hp2) (hl1.sub hl2) (fun x =>
      sub_le_mul_log_sub (pdf x beta1 sigma1) (pdf x beta2 sigma2) (pdf_pos x beta1 sigma1 hbeta1 hsigma1)
        (pdf_pos x beta2 sigma2 hbeta2 hsigma2))
  rw [hzero, integral_kl beta1 beta2 sigma1 sigma2 hbeta1 hbeta2 hsigma1 hsigma2] at hmono
  exact hmono

/-- Convexity of the power, as the log-concavity of the density needs it. -/
theorem rpow_abs_convex (x y s t beta a : ℝ) (hbeta : 1 ≤ beta) (ha : 0 < a) (hs : 0 ≤ s) (ht : 0 ≤ t)
    (hst : s + t = 1) :
    (|s * x + t * y| / a) ^ (beta : ℝ) ≤ s * (|x| / a) ^ (beta : ℝ) + t * (|y| / a) ^ (beta : ℝ) := by
  have hx : 0 ≤ |x| / a := div_nonneg (abs_nonneg x) ha.le
  have hy : 0 ≤ |y| / a := div_nonneg (abs_nonneg y) ha.le
  have htri : |s * x + t * y| / a ≤ s * (|x| / a) + t * (|y| / a) := by
    have h : |s * x + t * y| ≤ |s * x| + |t * y| := by
      first | exact abs_add_le _ _ | exact abs_add _ _
    rw [abs_mul, abs_mul, abs_of_nonneg hs, abs_of_nonneg ht] at h
    have e : s * (|x| / a) + t * (|y| / a) = (s * |x| + t * |y|) / a := by ring
    rw [e]
    exact div_le_div_of_nonneg_right h ha.le
  have hconv := (convexOn_rpow hbeta).2 (Set.mem_Ici.mpr hx) (Set.mem_Ici.mpr hy) hs ht hst
  simp only [smul_eq_mul] at hconv
  have hpow := Real.rpow_le_rpow (div_nonneg (abs_nonneg (s * x + t * y)) ha.le) htri (by linarith : 0 ≤ beta)
  exact hpow.trans hconv

/-- The density is log-concave for beta >= 1 [BoxTiao1973]. -/
theorem log_pdf_concave (beta sigma : ℝ) (hbeta : 1 ≤ beta) (hsigma : 0 < sigma) :
    ConcaveOn ℝ Set.univ (fun x : ℝ => Real.log (pdf x beta sigma)) := by
  have hb : 0 < beta := by linarith
  have ha := alpha_pos beta sigma hb hsigma
  refine ⟨convex_univ, fun x _ y _ s t hs ht hst => ?_⟩
  simp only [smul_eq_mul, log_pdf _ beta sigma hb hsigma]
  have h := rpow_abs_convex x y s t beta (alpha beta sigma) hbeta ha hs ht hst
  generalize Real.log (beta / (2 * alpha beta sigma * Real.Gamma (1 / beta))) = c
  have e : s * c + t * c = c := by rw [← add_mul, hst, one_mul]
  linarith

end QuantGap
