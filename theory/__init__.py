"""Information-theoretic bounds on weight quantization.

What is where:

===================================================  ========================
result                                               module
===================================================  ========================
GGD: density, moments, entropy, Fisher, KL           `theory.ggd`
what a quantizer asks of a source                    `theory.sources`
Gaussian R(D), Shannon lower bound, gap bounds       `theory.shannon`
certified R(D) of a source                           `theory.rate_distortion`
R(D) at every D, from brackets at a few              `theory.rd_curve`
Lloyd-Max, uniform, Panter-Dite, ECSQ, their prices  `theory.scalar`
best clip of a uniform grid, and rules for it        `theory.clipping`
NF4, FP4, E2M1, AF4, BOF4, integers                  `theory.codebooks`
block maximum, block-scaled distortion               `theory.block_scaling`
what storing the scales costs, in bits and in error  `theory.scale_formats`
a codebook made for another source                   `theory.mismatch`
lattices: second moments, space-filling loss         `theory.lattices`
water-filling, allocation, amplification             `theory.geometry`
whole bits shared among components                   `theory.bit_allocation`
an error's way through the layers                    `theory.propagation`
slope of ln D against bits                           `theory.slopes`
the gap as a sum of steps                            `theory.ledger`
every inequality, once                               `theory.claims`
every quantity, with its digits                      `theory.quantities`
Lean statements held to the Python                   `theory.crosscheck`
law of a sample correlation, power of its test       `theory.correlation`
reported figures beside the true ones                `theory.audit`
nats and bits                                        `theory.units`
===================================================  ========================

Each formula takes floats, arrays, ``mpmath.mpf``, ``flint.arb`` or sympy expressions and answers in kind. Modules are
imported by name, ``from theory import ggd``; importing one never imports torch.
"""
