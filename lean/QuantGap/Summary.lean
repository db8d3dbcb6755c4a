import QuantGap.Block
import QuantGap.BlockGGD
import QuantGap.Certificate
import QuantGap.Claims
import QuantGap.Codebooks
import QuantGap.Converse
import QuantGap.FiniteEntropy
import QuantGap.GapTheorem
import QuantGap.Geometry
import QuantGap.Lattices
import QuantGap.Mismatch
import QuantGap.Quantizer
import QuantGap.RateBounds
import QuantGap.Scalar
import QuantGap.Waterfilling

/-!
# The headlines, and what each rests on

`#print axioms` names `sorryAx` under a statement without a proof; nothing else than `propext`, `Classical.choice` and
`Quot.sound` may appear.
-/

namespace QuantGap.Summary

/-- The size of the nats-for-bits error, and that it is positive. -/
theorem nats_for_bits (beta sigma : ℝ) (hbeta : 0 < beta) (hsigma : 0 < sigma) :
    entropyBits beta sigma - entropyMixedUnits beta sigma = natsForBitsError beta ∧ 0 < natsForBitsError beta :=
  ⟨entropyBits_sub_mixed beta sigma hbeta hsigma, natsForBitsError_pos beta hbeta⟩

/-- The Gaussian has the largest entropy [CoverThomas2006, thm 8.6.5]. -/
theorem entropy_maximal (beta sigma : ℝ) (hbeta : 0 < beta) (hsigma : 0 < sigma) :
    entropyBits beta sigma ≤ entropyBits 2 sigma :=
  entropyBits_le_gaussian beta sigma hbeta hsigma

/-- The three Fisher bounds are in order. -/
theorem fisher_bounds_ordered (D J sigma : ℝ) (hD : 0 < D) (hsigma : 0 < sigma) (hDs : D < sigma ^ 2)
    (hJ : 0 < J) :
    gapFisherRefined D J sigma ≤ gapFisherLog D J ∧ gapFisherLog D J ≤ gapFisherLinear D J :=
  ⟨gapFisherRefined_le_log D J sigma hD hsigma hDs hJ, gapFisherLog_le_linear D J hD hJ⟩

/-- Both ends of the finite-alphabet bracket, for the channel that the solver builds [Csiszar1974]. -/
theorem bracket (n m : ℕ) (p : Fin n → ℝ) (w : Fin n → Fin m → ℝ) (d : Fin n → Fin m → ℝ) (s : ℝ)
    (lam : Fin n → ℝ) (q : Fin m → ℝ) (hp : ∀ i : Fin n, 0 ≤ p i) (hp1 : ∑ i : Fin n, p i = 1)
    (hw : ∀ i : Fin n, ∀ j : Fin m, 0 ≤ w i j) (hw1 : ∀ i : Fin n, ∑ j : Fin m, w i j = 1)
    (hlam : ∀ i : Fin n, 0 < lam i)
    (hdual : ∀ j : Fin m, ∑ i : Fin n, p i * lam i * Real.exp (-s * d i j) ≤ 1)
    (hq : ∀ j : Fin m, 0 < q j) (hq1 : ∑ j : Fin m, q j = 1) :
    (∑ i : Fin n, p i * Real.log (lam i)) - s * meanDistortion n m p w d ≤ mutualInformation n m p w
      ∧ mutualInformation n m p w ≤ meanDivergence n m p w q :=
  ⟨weak_duality n m p w d s lam hp hp1 hw hw1 hlam hdual,
    information_le_meanDivergence n m p w q hp hp1 hw hw1 hq hq1⟩

end QuantGap.Summary

#print axioms QuantGap.Summary.nats_for_bits
#print axioms QuantGap.Summary.entropy_maximal
#print axioms QuantGap.Summary.fisher_bounds_ordered
#print axioms QuantGap.Summary.bracket
#print axioms QuantGap.integral_pdf
#print axioms QuantGap.integral_abs_rpow_mul_pdf
#print axioms QuantGap.integral_neg_pdf_mul_log_pdf
#print axioms QuantGap.integral_kl
#print axioms QuantGap.one_le_fisher_mul_variance
#print axioms QuantGap.log_pdf_concave
#print axioms QuantGap.slb_gaussian_tight
#print axioms QuantGap.gap_le_gapKl
#print axioms QuantGap.forward_distortion
#print axioms QuantGap.gap_refined
#print axioms QuantGap.gap_log
#print axioms QuantGap.meanDivergence_tilted
#print axioms QuantGap.nearest_level_optimal
#print axioms QuantGap.uniform_mean_square
#print axioms QuantGap.exists_level_near
#print axioms QuantGap.nf4_gap_le
#print axioms QuantGap.fp4_gap_le
#print axioms QuantGap.blocks_mean_square
#print axioms QuantGap.largest_reproduced
#print axioms QuantGap.absmax_mean_le_momentBound
#print axioms QuantGap.jensen_lower
#print axioms QuantGap.jensen_upper
#print axioms QuantGap.donsker_varadhan
#print axioms QuantGap.waterfilling_optimal
#print axioms QuantGap.mean_sq_le_eigenvalue
#print axioms QuantGap.panterDite_eq_integral
#print axioms QuantGap.information_ge_slb
#print axioms QuantGap.entropyCoded_ge_slb
#print axioms QuantGap.rows_ge_slb
#print axioms QuantGap.mutualInformation_convex
#print axioms QuantGap.mutualInformation_le_entropyOf
#print axioms QuantGap.entropyOf_le_log
#print axioms QuantGap.forward_information_le
#print axioms QuantGap.ziv_bound
#print axioms QuantGap.reverse_waterfilling_optimal
#print axioms QuantGap.sphereBound_le_zadorUpper
