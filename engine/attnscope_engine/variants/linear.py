"""Linear attention: the softmax replaced by a product of features, so that a running state of fixed size is enough.

Katharopoulos et al. 2020, "Transformers are RNNs", sections 3.2 to 3.4, arXiv 2006.16236, with elu + 1 and a divisor. Without the
divisor: Qin et al. 2022, "The devil in linear transformer", arXiv 2210.10340; relu: Qin et al. 2022, cosFormer, arXiv 2202.08791.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from attnscope_engine import cuda, numerics, recurrent, recurrent_cost
from attnscope_engine.cost import Cost, tensor_term
from attnscope_engine.cuda.linear import Feature
from attnscope_engine.protocol import DeviceKind, Workload
from attnscope_engine.recurrent_cost import Sizes
from attnscope_engine.variant import Params, Tick, Variant, flag, one_of

ELU, RELU, RELU2, EXP, IDENTITY = "elu + 1", "relu", "relu²", "exp", "identity"

KERNEL_FEATURES: dict[str, Feature] = {ELU: "elu", RELU: "relu", RELU2: "relu2", EXP: "exp", IDENTITY: "identity"}


class LinearParams(Params, frozen=True):
    """What stands in the place of the exponential."""

    feature: Annotated[
        str, one_of((ELU, RELU, RELU2, EXP, IDENTITY), help="φ, of each number of q and k: weights are φ(q)·φ(k)", label="φ")
    ] = ELU
    normalised: Annotated[
        bool,
        flag(help="Divide each row by the sum of its weights. Not with identity, whose sums may be 0", label="divide by the sum"),
    ] = True


def resolve(workload: Workload, params: LinearParams) -> LinearParams:
    """Sums of identity's weights have any sign, and dividing by one near 0 has no sense."""
    return msgspec.structs.replace(params, normalised=is_normalised(params))


def is_normalised(params: LinearParams) -> bool:
    """Whether rows are divided by their sums."""
    return params.normalised and params.feature != IDENTITY


def cost(workload: Workload, params: LinearParams, on: DeviceKind) -> Cost:
    """Features, then the state (its normaliser is one more value column) written and read once a token."""
    w, normalised = workload, is_normalised(params)
    if on == "cuda":
        steps = cuda.linear.steps(w, normalised=normalised, feature=KERNEL_FEATURES[params.feature])
        return Cost(steps, (tensor_term(w), *cuda.linear.held(w)))
    exps = w.head_dim if params.feature in (ELU, EXP) else 0
    return recurrent_cost.cost(w, sizes(w, params), feature_exps=exps)


def sizes(workload: Workload, params: LinearParams) -> Sizes:
    """Of the state. A second array of queries is there while elu + 1 is made, or while features are scaled."""
    d, made = workload.head_dim, params.feature != IDENTITY
    copies = 2 if params.feature == ELU or (made and not params.normalised) else 1
    return Sizes(d, d + int(is_normalised(params)), made_features=made, query_copies=copies)


def phi(x: NDArray[Any], params: LinearParams) -> NDArray[np.float64]:
    """φ in float64."""
    wide = x.astype(np.float64)
    if params.feature == ELU:
        return np.where(wide > 0, wide + 1, np.exp(np.minimum(wide, 0)))
    if params.feature == EXP:
        return np.exp(wide)
    if params.feature == IDENTITY:
        return wide
    positive: NDArray[np.float64] = np.maximum(wide, 0)
    return positive if params.feature == RELU else positive**2


def rows_of(products: NDArray[np.float64], head_dim: int, params: LinearParams) -> NDArray[np.float64]:
    """Products of features to weights: each row divided by its sum (by 1 if that is 0), or all times D^-½."""
    if not is_normalised(params):
        return products * float(head_dim**-0.5)
    total = products.sum(axis=-1, keepdims=True)
    mapped: NDArray[np.float64] = products / np.where(total == 0, 1.0, total)
    return mapped


def reference(q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], workload: Workload, params: LinearParams) -> NDArray[Any]:
    """φ(Q) φ(K)ᵀ V over what is seen, each row divided by its sum or times D^-½; a query that sees no key gives 0."""
    n, m = q.shape[-2], k.shape[-2]
    seen = visible(workload, params, np.arange(n) + m - n, np.arange(m))
    keys = phi(numerics.expand_heads(k, q.shape[1]), params)
    products = np.where(seen, phi(q, params) @ keys.swapaxes(-1, -2), 0.0)
    return rows_of(products, q.shape[-1], params) @ numerics.expand_heads(v, q.shape[1]).astype(np.float64)


def run_cpu(q: Any, k: Any, v: Any, workload: Workload, params: LinearParams, xp: Any, tick: Tick) -> Any:
    """One state for each key head, older keys inside it; the pairs of a chunk directly."""
    feature, scale, normalised = feature_of(params, xp), q.shape[-1] ** -0.5, is_normalised(params)
    if params.feature == EXP and normalised:
        rule = recurrent.Rule(lambda x: x + 0, lambda x: x + 0, normalised=True, exponents=True)
    elif normalised:
        rule = recurrent.Rule(feature, feature, normalised=True)
    else:
        rule = recurrent.Rule(lambda x: feature(x) * scale, feature)
    return recurrent.run(q, k, v, workload, lambda heads: rule, xp, tick)


def feature_of(params: LinearParams, xp: Any) -> Callable[[Any], Any]:
    """φ of an fp32 array."""

    def elu(x: Any) -> Any:
        found = xp.clip(x, None, 0)
        xp.exp(found, out=found)
        found += xp.clip(x, 0, None)
        return found

    def relu2(x: Any) -> Any:
        found = xp.clip(x, 0, None)
        found *= found
        return found

    functions: dict[str, Callable[[Any], Any]] = {
        ELU: elu,
        RELU: lambda x: xp.clip(x, 0, None),
        RELU2: relu2,
        EXP: xp.exp,
        IDENTITY: lambda x: x,
    }
    return functions[params.feature]


def launch(device: Any, q: Any, k: Any, v: Any, out: Any, workload: Workload, params: LinearParams) -> None:
    """One kernel, or three: states of segments, their running sums, outputs."""
    cuda.linear.attend(
        device,
        "linear",
        "Linear",
        (q, k, v, out),
        workload,
        feature=KERNEL_FEATURES[params.feature],
        normalised=is_normalised(params),
        scale=q.shape[-1] ** -0.5,
    )


def weights(
    q: NDArray[Any], k: NDArray[Any], workload: Workload, params: LinearParams, rows: NDArray[Any], head: int
) -> NDArray[Any]:
    """A_ij = φ(q_i)·φ(k_j) / Σ_l φ(q_i)·φ(k_l), or ·D^-½: the map that the state implies. The method never computes it."""
    seen = visible(workload, params, rows + k.shape[0] - q.shape[0], np.arange(k.shape[0]))
    products = np.where(seen, phi(q[rows], params) @ phi(k, params).T, 0.0)
    return rows_of(products, q.shape[-1], params)


def visible(workload: Workload, params: LinearParams, rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[np.bool_]:
    """All keys, or those not after the query."""
    return numerics.causal_visible(rows, columns, 0) if workload.causal else numerics.all_visible(rows, columns)


def state_bytes(workload: Workload, params: LinearParams) -> int:
    """Σ φ(k) [v 1]ᵀ of every key head, fp32."""
    return recurrent_cost.state_bytes(workload, sizes(workload, params))


def summary(params: LinearParams) -> str:
    """Such as "φ = elu + 1" or "φ = relu · not divided"."""
    return f"φ = {params.feature}{'' if params.normalised else ' · not divided'}"


VARIANT = Variant(
    name="linear",
    title="Linear",
    family="linear",
    order=3,
    source="Katharopoulos et al. 2020, sections 3.2 to 3.4, arXiv 2006.16236",
    formula="out = φ(Q) (φ(K)ᵀ V) / φ(Q) (φ(K)ᵀ 1), φ(x) = elu(x) + 1 or another; not divided: · D^-½",
    params=LinearParams,
    summary=summary,
    resolve=resolve,
    cost=cost,
    reference=reference,
    run_cpu=run_cpu,
    launch=launch,
    weights=weights,
    visible=visible,
    signed=lambda params: params.feature == IDENTITY,
    normalised=is_normalised,
    state_bytes=state_bytes,
)
