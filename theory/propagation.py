r"""Propagation of the errors of layers through the depth of a network.

A quantized layer errs by :math:`\delta_l` on the input that it gets, and passes on the error of that input. With
:math:`L_l` a Lipschitz constant of the layer that was meant, :math:`e_l \le L_l e_{l-1} + \delta_l`.
"""

from __future__ import annotations

from typing import Any

from theory.arithmetic import Number, guarded
from theory.domain import NONNEGATIVE, accept


def _through(added: Any, factors: Any) -> Any:
    """Sum over l of added[l] times the factors after l, over the last axis."""
    if added.shape[-1:] != factors.shape[-1:] or not added.shape[-1:]:
        raise ValueError(f"the last axes are the layers and must agree: shapes {added.shape} and {factors.shape}")
    error = 0 * added[..., 0]
    for layer in range(added.shape[-1]):
        error = factors[..., layer] * error + added[..., layer]
    return error


@guarded(16)
def bound(errors: Number, lipschitz: Number) -> Number:
    r"""Upper bound on the size of the error after the last layer, in the unit of the errors.

    .. math:: e \le \sum_l \delta_l \prod_{k>l} L_k

    Parameters
    ----------
    errors : array of shape (..., layers)
        Norm of the error that each layer adds, >= 0: the quantized layer minus the layer, both on the input that it
        gets in the quantized network.
    lipschitz : array of shape (..., layers)
        Lipschitz constant of each layer before quantization, >= 0, in the same norm; see `residual`. The first has
        no say.

    Returns
    -------
    number or array
        Over the last axis; the others broadcast. Any arithmetic.

    Raises
    ------
    ValueError
        If a value is negative or the numbers of layers differ.

    Notes
    -----
    By the triangle inequality, whatever the errors are. It also holds with the errors on the inputs of the original
    network and the constants of the quantized layers. Far from tight: constants multiply, and errors seldom align.

    Examples
    --------
    >>> bound([0.5, 0.25, 0.5], [1.0, 2.0, 3.0]).item()
    4.25
    """
    _, errors, lipschitz = accept(errors=(errors, NONNEGATIVE), lipschitz=(lipschitz, NONNEGATIVE))
    return _through(errors, lipschitz)


@guarded(16)
def predict(mean_squares: Number, gains: Number) -> Number:
    r"""Mean square of the error after the last layer to first order, in the unit of `mean_squares`.

    .. math:: E|e|^2 \approx \sum_l m_l \prod_{k>l} g_k^2

    Parameters
    ----------
    mean_squares : array of shape (..., layers)
        Mean squared norm of the error that each layer adds, >= 0.
    gains : array of shape (..., layers)
        Root-mean-square gain of each layer, >= 0: :math:`g^2 = E\|J u\|^2/\|u\|^2`, J the Jacobian, u the error that
        comes in. For an isotropic one :math:`g^2 = \operatorname{tr}(J'J)/n`.

    Notes
    -----
    A prediction, no bound: the errors are taken as uncorrelated between layers and small, so that the layers act by
    their Jacobians. Exact for linear layers with uncorrelated errors of zero mean and these gains.

    Examples
    --------
    >>> predict([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]).item()
    46.0
    >>> import sympy
    >>> m1, m2, g2 = sympy.symbols("m1 m2 g2", positive=True)
    >>> print(predict([m1, m2], [1, g2]))
    g2**2*m1 + m2
    """
    _, mean_squares, gains = accept(mean_squares=(mean_squares, NONNEGATIVE), gains=(gains, NONNEGATIVE))
    return _through(mean_squares, gains**2)


@guarded(16)
def residual(lipschitz: Number) -> Number:
    r"""Lipschitz constant of x + f(x) from that of f, >= 0: :math:`1 + L`; no unit.

    The least that holds for every f, and attained by f(x) = L x.

    >>> float(residual(0.5))
    1.5
    """
    _, lipschitz = accept(lipschitz=(lipschitz, NONNEGATIVE))
    return 1 + lipschitz
