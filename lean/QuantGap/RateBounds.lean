import QuantGap.Claims
import QuantGap.Scalar

/-!
# What a rate-distortion function is at most

`R` stands for the rate-distortion function at `D`, of which each theorem assumes no more than it names.
-/

namespace QuantGap

/-- The gap is at most (c), where it is at most (d). -/
theorem gap_linear (R h D J : ℝ) (hD : 0 < D) (hJ : 0 < J)
    (hR : R - shannonLowerBound h D ≤ gapFisherLog D J) :
    R - shannonLowerBound h D ≤ gapFisherLinear D J :=
  hR.trans (gapFisherLog_le_linear D J hD hJ)

/-- (b') is below (a). -/
theorem gapLogConcave_le_gapUniversal :
    gapLogConcave ≤ gapUniversal := by
  have hp := Real.pi_pos
  have h : Real.log (Real.pi / 6) ≤ Real.log (Real.pi / 2) := Real.log_le_log (by positivity) (by linarith)
  unfold gapLogConcave gapUniversal
  exact div_le_div_of_nonneg_right (by linarith) two_mul_log_two_pos.le

/-- The gap of a log-concave GGD is at most (b') [Madiman2018]. It rests on `kl_le_gapLogConcave`, which has no
proof here. -/
theorem ggd_gap_logConcave (R beta D sigma : ℝ) (hbeta : 1 ≤ beta) (hD : 0 < D) (hsigma : 0 < sigma)
    (hR : R ≤ gaussianRate D sigma) :
    R - shannonLowerBound (entropyBits beta sigma) D ≤ gapLogConcave := by
  have h1 := gap_le_gapKl R (entropyBits beta sigma) D sigma hD hsigma hR
  have h2 := kl_le_gapLogConcave beta hbeta
  rw [gapKl_ggd beta sigma (by linarith) hsigma] at h1
  exact h1.trans h2

/-- The gap of a log-concave GGD is at most (a) [MarsigliettiKostina2018]. It rests on `kl_le_gapLogConcave`. -/
theorem ggd_gap_universal (R beta D sigma : ℝ) (hbeta : 1 ≤ beta) (hD : 0 < D) (hsigma : 0 < sigma)
    (hR : R ≤ gaussianRate D sigma) :
    R - shannonLowerBound (entropyBits beta sigma) D ≤ gapUniversal :=
  (ggd_gap_logConcave R beta D sigma hbeta hD hsigma hR).trans gapLogConcave_le_gapUniversal

/-- The forward channel's information is at most the Gaussian's rate, for its output, of entropy `h`, has at most
the entropy of a Gaussian of equal variance [Berger1971]. -/
theorem forward_information_le (h D sigma : ℝ) (hD : 0 < D) (hsigma : 0 < sigma) (hDs : D < sigma ^ 2)
    (hh : h ≤ (1 + Real.log (2 * Real.pi * (forwardGain D sigma ^ 2 * (sigma ^ 2 + forwardNoise D sigma))))
      / (2 * Real.log 2)) :
    h - (1 + Real.log (2 * Real.pi * (forwardGain D sigma ^ 2 * forwardNoise D sigma))) / (2 * Real.log 2)
      ≤ gaussianRate D sigma := by
  have hs : 0 < sigma ^ 2 := by positivity
  have hpi : 0 < 2 * Real.pi := by positivity
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
  have e2 : forwardGain D sigma * sigma ^ 2 + D = sigma ^ 2 := by
    unfold forwardGain
    field_ring
  have e3 : forwardGain D sigma ^ 2 * (sigma ^ 2 + forwardNoise D sigma) = forwardGain D sigma * sigma ^ 2 := by
    calc forwardGain D sigma ^ 2 * (sigma ^ 2 + forwardNoise D sigma)
        = forwardGain D sigma * (forwardGain D sigma * sigma ^ 2)
          + forwardGain D sigma ^ 2 * forwardNoise D sigma := by ring
      _ = forwardGain D sigma * (forwardGain D sigma * sigma ^ 2 + D) := by
        rw [e1]
        ring
      _ = forwardGain D sigma * sigma ^ 2 := by rw [e2]
  rw [e3, Real.log_mul hpi.ne' (mul_pos ha hs).ne', Real.log_mul ha.ne' hs.ne'] at hh
  rw [e1, Real.log_mul hpi.ne' (mul_pos ha hD).ne', Real.log_mul ha.ne' hD.ne']
  unfold gaussianRate
  rw [Real.log_div hD.ne' hs.ne']
  have hsub := sub_le_sub_right hh
    ((1 + (Real.log (2 * Real.pi) + (Real.log (forwardGain D sigma) + Real.log D))) / (2 * Real.log 2))
  refine hsub.trans (le_of_eq ?_)
  ring

/-- What an entropy-coded quantizer may lose at any rate, in bits [Ziv1985]. -/
noncomputable def zivLoss : ℝ :=
  (1 + Real.log (4 * Real.pi / 12)) / (2 * Real.log 2)

/-- Half a bit above what it loses at high rate. -/
theorem zivLoss_eq :
    zivLoss = gishPierce + 1 / 2 := by
  have hl := Real.log_pos (show (1 : ℝ) < 2 by norm_num)
  have hp : 0 < 2 * Real.pi / 12 := by positivity
  have e : 4 * Real.pi / 12 = 2 * (2 * Real.pi / 12) := by ring
  unfold zivLoss gishPierce
  rw [e, Real.log_mul (by norm_num) hp.ne']
  generalize Real.log (2 * Real.pi / 12) = y
  generalize Real.log 2 = l at *
  field_ring

/-- What the channel of a uniform noise of this step gives at most to an input of no more variance than the noise,
`step^2/12`: the entropy of a Gaussian of twice that variance, less the noise's. -/
theorem uniform_noise_information (step : ℝ) (hstep : 0 < step) :
    (1 + Real.log (2 * Real.pi * (2 * (step ^ 2 / 12)))) / (2 * Real.log 2) - Real.log step / Real.log 2
      = zivLoss := by
  have hl := Real.log_pos (show (1 : ℝ) < 2 by norm_num)
  have hs : 0 < step ^ 2 := by positivity
  have hp : 0 < 4 * Real.pi / 12 := by positivity
  have e1 : 2 * Real.pi * (2 * (step ^ 2 / 12)) = 4 * Real.pi / 12 * step ^ 2 := by ring
  have e2 : Real.log (step ^ 2) = 2 * Real.log step := by
    rw [Real.log_pow]
    norm_num
  unfold zivLoss
  rw [e1, Real.log_mul hp.ne' hs.ne', e2]
  generalize Real.log (4 * Real.pi / 12) = y
  generalize Real.log step = z
  generalize Real.log 2 = l at *
  field_ring

/-- Ziv's bound from its two steps: the entropy `H` of a dithered quantizer of this step exceeds the rate by at most
the information over its noise, uniform and of variance `step^2/12`, of an input of no more variance, whose output
has the entropy `e` [Ziv1985]. -/
theorem ziv_bound (R step e H : ℝ) (hstep : 0 < step)
    (he : e ≤ (1 + Real.log (2 * Real.pi * (2 * (step ^ 2 / 12)))) / (2 * Real.log 2))
    (hH : H ≤ R + (e - Real.log step / Real.log 2)) :
    H ≤ R + zivLoss := by
  have h := uniform_noise_information step hstep
  linarith

end QuantGap
