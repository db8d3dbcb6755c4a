import Mathlib.Analysis.Calculus.MeanValue
import Mathlib.Analysis.SpecialFunctions.Log.Deriv
import QuantGap.Shannon

/-!
# The gap theorem, from de Bruijn's identity and Stam's inequality

In nats. `h t` stands for the entropy of `X + sqrt t Z` and `J t` for its Fisher information, Z a standard normal
independent of X. De Bruijn's identity (a right derivative, so that it can be asked at 0) and Stam's inequality are
hypotheses of each theorem, and so is the rate of the channel.
-/

namespace QuantGap

/-- Entropy gained by adding Gaussian noise of variance `theta` [Stam1959; CoverThomas2006]. -/
theorem entropy_gain (h J : ℝ → ℝ) (J0 theta : ℝ) (hJ0 : 0 < J0) (htheta : 0 ≤ theta)
    (hcont : ContinuousOn h (Set.Icc 0 theta))
    (deBruijn : ∀ t ∈ Set.Ico (0 : ℝ) theta, HasDerivWithinAt h (J t / 2) (Set.Ici t) t)
    (stam : ∀ t ∈ Set.Ico (0 : ℝ) theta, J t ≤ J0 / (1 + t * J0)) :
    h theta - h 0 ≤ Real.log (1 + theta * J0) / 2 := by
  have hpos : ∀ t : ℝ, 0 ≤ t → 0 < 1 + t * J0 := fun t ht => by positivity
  have hderiv : ∀ t : ℝ, 0 ≤ t →
      HasDerivAt (fun u : ℝ => h 0 + Real.log (1 + u * J0) / 2) (J0 / (1 + t * J0) / 2) t := by
    intro t ht
    have h1 : HasDerivAt (fun u : ℝ => 1 + u * J0) J0 t := by
      have h2 := ((hasDerivAt_id t).mul_const J0).const_add 1
      simpa using h2
    exact ((h1.log (hpos t ht).ne').div_const 2).const_add (h 0)
  have key := image_le_of_deriv_right_le_deriv_boundary
    (f := h) (f' := fun t => J t / 2) (a := 0) (b := theta)
    (B := fun u : ℝ => h 0 + Real.log (1 + u * J0) / 2) (B' := fun t => J0 / (1 + t * J0) / 2)
    hcont deBruijn (by simp)
    (fun t ht => (hderiv t ht.1).continuousAt.continuousWithinAt)
    (fun t ht => (hderiv t ht.1).hasDerivWithinAt)
    (fun t ht => by
      have hs := stam t ht
      show J t / 2 ≤ J0 / (1 + t * J0) / 2
      linarith)
  have hend : h theta ≤ h 0 + Real.log (1 + theta * J0) / 2 := key (Set.right_mem_Icc.mpr htheta)
  linarith

/-- From the entropy gained to bound (e), in nats: real arithmetic only. -/
theorem refined_from_entropy_gain (R h0 htheta D J0 sigma : ℝ) (hD : 0 < D) (hsigma : 0 < sigma)
    (hDs : D < sigma ^ 2) (hJ0 : 0 < J0)
    (hR : R ≤ htheta - (1 + Real.log (2 * Real.pi * forwardNoise D sigma)) / 2)
    (hgain : htheta - h0 ≤ Real.log (1 + forwardNoise D sigma * J0) / 2) :
    R - (h0 - (1 + Real.log (2 * Real.pi * D)) / 2) ≤ Real.log (1 + D * (J0 - 1 / sigma ^ 2)) / 2 := by
  have htn := forwardNoise_pos D sigma hD hsigma hDs
  have hpi : 0 < 2 * Real.pi := by positivity
  have h1 : 0 < 1 + forwardNoise D sigma * J0 := by positivity
  have e : Real.log (1 + D * (J0 - 1 / sigma ^ 2))
      = Real.log (1 + forwardNoise D sigma * J0) + Real.log D - Real.log (forwardNoise D sigma) := by
    rw [← forward_combine D J0 sigma hD hsigma hDs, Real.log_div (mul_pos h1 hD).ne' htn.ne',
      Real.log_mul h1.ne' hD.ne']
  have e1 := Real.log_mul hpi.ne' htn.ne'
  have e2 := Real.log_mul hpi.ne' hD.ne'
  rw [e1] at hR
  rw [e, e2]
  linarith

/-- The gap theorem, bound (e) in nats: `R(D) - R_SLB(D) <= 1/2 ln (1 + D (J - 1/sigma^2))`. -/
theorem gap_refined (h J : ℝ → ℝ) (R D J0 sigma : ℝ) (hD : 0 < D) (hsigma : 0 < sigma)
    (hDs : D < sigma ^ 2) (hJ0 : 0 < J0)
    (hcont : ContinuousOn h (Set.Icc 0 (forwardNoise D sigma)))
    (deBruijn : ∀ t ∈ Set.Ico (0 : ℝ) (forwardNoise D sigma), HasDerivWithinAt h (J t / 2) (Set.Ici t) t)
    (stam : ∀ t ∈ Set.Ico (0 : ℝ) (forwardNoise D sigma), J t ≤ J0 / (1 + t * J0))
    (hR : R ≤ h (forwardNoise D sigma) - (1 + Real.log (2 * Real.pi * forwardNoise D sigma)) / 2) :
    R - (h 0 - (1 + Real.log (2 * Real.pi * D)) / 2) ≤ Real.log (1 + D * (J0 - 1 / sigma ^ 2)) / 2 := by
  have htn := forwardNoise_pos D sigma hD hsigma hDs
  exact refined_from_entropy_gain R (h 0) (h (forwardNoise D sigma)) D J0 sigma hD hsigma hDs hJ0 hR
    (entropy_gain h J J0 (forwardNoise D sigma) hJ0 htn.le hcont deBruijn stam)

/-- Bound (d) in nats, from the channel `Y = X + N(0, D)`. -/
theorem gap_log (h J : ℝ → ℝ) (R D J0 : ℝ) (hD : 0 < D) (hJ0 : 0 < J0)
    (hcont : ContinuousOn h (Set.Icc 0 D))
    (deBruijn : ∀ t ∈ Set.Ico (0 : ℝ) D, HasDerivWithinAt h (J t / 2) (Set.Ici t) t)
    (stam : ∀ t ∈ Set.Ico (0 : ℝ) D, J t ≤ J0 / (1 + t * J0))
    (hR : R ≤ h D - (1 + Real.log (2 * Real.pi * D)) / 2) :
    R - (h 0 - (1 + Real.log (2 * Real.pi * D)) / 2) ≤ Real.log (1 + D * J0) / 2 := by
  have hgain := entropy_gain h J J0 D hJ0 hD.le hcont deBruijn stam
  linarith

end QuantGap
