from __future__ import annotations
import math
from dataclasses import dataclass
import numpy as np
from theory.blahut_arimoto import Nodes, Reproduction, improve, potential, unfold
from theory.domain import NONNEGATIVE, POSITIVE, accept
from theory.rd_certificate import *
from theory.rd_certificate import REACH, grid, body
from theory.sources import Histogram, Source
from theory.units import from_nats, to_nats

_SPACING = 0.5
_ROUNDS = 10

def _omega(nodes, y, s):
    value = np.concatenate(list(potential(nodes, nodes.p, y, s, REACH)), axis=1)[0]
    return np.maximum(value * _SPACING / math.sqrt(2 * math.pi), 1e-200)

def _initial(b, s):
    tau = 1 / math.sqrt(2 * s)
    y = grid(b.hull, _SPACING * tau, 2 * tau)
    q = _omega(b.coarse, y, s) * (np.gradient(y) if len(y) > 1 else 1.0)
    return Reproduction(y, q * b.coarse.p.sum() / q.sum(), s)

def _refine(b, r, omega, found, tol):
    """Drop atoms that vanish; where g exceeds 1, add its local maximum and the centroid of the atoms around."""
    tau = 1 / math.sqrt(2 * r.s)
    keep = r.q > 1e-4 * omega
    y, q = r.y[keep], r.q[keep]
    rise, fall = found.slope[:-1], found.slope[1:]
    peak = np.flatnonzero((rise > 0) & (fall <= 0) & (found.cells > 1 + tol / 8))
    top = found.y[peak] + np.diff(found.y)[peak] * (rise / np.where(rise > fall, rise - fall, 1.0))[peak]
    i = np.clip(np.searchsorted(y, top), 1, max(1,len(y) - 1))
    pair = (y[i] - y[i - 1] < tau) if len(y)>1 else np.zeros(len(top),bool)
    i = i[pair]
    middle = (q[i] * y[i] + q[i - 1] * y[i - 1]) / (q[i] + q[i - 1])
    new = np.unique(np.concatenate([top, middle]))
    near=np.clip(np.searchsorted(y,new),0,len(y)-1)
    yy = np.concatenate([y, new]); qq = np.concatenate([q, q[near]/2])
    o = np.argsort(yy); yy, qq = yy[o], qq[o]
    k = np.concatenate([[True], np.diff(yy) > 1e-6 * tau])
    yy, qq = yy[k], qq[k]
    return Reproduction(yy, qq * r.q.sum() / qq.sum(), r.s, r.iterations)

def core(source, D=None, rate=None, tol=1e-6, verbose=0):
    tn = float(to_nats(tol)); sigma = math.sqrt(source.variance)
    s = 1/(2*D)
    b = body(source, sigma, s, tn)
    r = _initial(b, s)
    barrier = 1e-2
    best_lo=-1; best_up=9e9
    import time
    for rd in range(_ROUNDS):
        t0=time.time()
        om = _omega(b.coarse, r.y, r.s)
        r = improve(b.coarse, r, om, target=D-b.tail.distortion, barrier=barrier, floor=tn/10)
        om = _omega(b.coarse, r.y, r.s)
        t1=time.time()
        line, found, err = lower_line(b, r, tn)
        up = upper_point(b, r, err, tn, D=D)
        t2=time.time()
        best_lo=max(best_lo, line.rate(D)); best_up=min(best_up, up.rate if up else 9e9)
        if verbose: print(f"   rd{rd} n={len(r.y)} it={r.iterations} {r.settled} t={t1-t0:.2f} {t2-t1:.2f} sup={found.sup-1:.1e} err={err:.1e} width={from_nats(best_up-best_lo):.1e}", flush=True)
        if best_up-best_lo<=tn: break
        r=_refine(b,r,om,found,tn); barrier=1e-4
    return from_nats(best_lo),from_nats(best_up),r,rd+1
