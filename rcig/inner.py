"""The inner problem: a network fitted to the distilled set by ridge regression, and products with its inverse Hessian.

    L(δ, Ω) = ½‖t + Φ Ω − Y‖² + ½λ (‖δ‖²/s + ‖Ω‖²)

δ displaces the network's body, Ω is its final layer. What an image x contributes is its offset t and its features φ
(`Outputs`), and that is where the members of the family differ (Loo et al. 2023, sections 3.1 to 3.3):

    linearised   t = J(x) δ, φ at the origin       CIG, RCIG   (eq. 2)
    moved        t = 0, φ at the origin + δ        VIG, RIG
    fixed        t = 0, φ at the origin, no δ      FRePo, RFAD

With the closed form, Ω = Ω*(δ) (eqs. 3 and 4) and L is a function of δ alone (eq. 5: RIG, RCIG); without it, Ω is a
variable too (VIG, CIG). Linearised and with the closed form, L is a strictly convex quadratic, which `dense` and `cg`
minimise exactly through its dual, (K + λI) α = vec(Y) with K = s J Jᵀ + (Φ Φᵀ) ⊗ I, δ = s Jᵀα; `adam` takes the paper's
steps (Algorithm 1) and works for every member. Nothing here knows of distillation, files or settings.
"""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.scipy.linalg import cho_factor, cho_solve

from rcig.passes import map_images, sum_images

Features = Callable[..., jax.Array]
"""(body parameters, x (n, …), own=None) -> features (n, H), see rcig.nets.Net"""
Info = dict[str, Any]
"""Scalars that say how well a solve went; of `adam` the losses too."""


class Weights(NamedTuple):
    """Weights of a network, or a displacement of them."""

    body: Any
    """PyTree with P numbers; None where the body is fixed"""
    head: Any
    """final layer (H, C); None where it is not a variable but follows from the body by the closed form"""


class Outputs(NamedTuple):
    """What images contribute to predictions t + φᵀ Ω, and the cotangents of that."""

    offset: jax.Array
    """t (n, C)"""
    features: jax.Array
    """φ (n, H)"""


class Problem(NamedTuple):
    outputs: Callable[[Any, jax.Array], Outputs]
    """(δ, x) -> Outputs: `linearised`, `moved` or `fixed`"""
    jacobian: Callable[[jax.Array, int | None], Any]
    """(x, per_pass) -> J(x), like the body with leaves (n, C, …): `rows_by_image` or `rows_by_layer`"""
    start: Weights
    """where iterations begin: δ = 0 (None if fixed), and Ω (None with the closed form)"""
    x: jax.Array
    """(n, …)"""
    y: jax.Array
    """(n, C)"""
    l2: jax.Array | float
    """λ"""
    body_weight: float
    """s"""
    float64: bool
    """solve for the final layer in 64 bits"""
    backward_images: int | None
    """images that backward passes go through, drawn anew each time; None: all (Loo et al. 2023, section 3.6)"""
    per_pass: int | None
    """images at a time, see `passes`"""


class Solved(NamedTuple):
    weights: Weights
    """δ and Ω"""
    outputs: Outputs
    """of the distilled images at δ"""
    pull: Callable[[Outputs], Any]
    """cotangents of these outputs, pulled back to δ"""
    along: Callable[[Any], Outputs]
    """how these outputs change as δ moves along a direction"""
    invert: Callable[[Weights], tuple[Weights, Info]]
    """g -> (H⁻¹ g, info), H the Hessian of L in its variables"""
    info: Info


def linearised(features: Features, origin: Weights) -> Callable[[Any, jax.Array], Outputs]:
    """The network as its first-order expansion in the body at `origin`, centred (eq. 2).

    J(x) is the derivative of the logits W₀ᵀ φ(x) by the body.
    """

    def outputs(shift: Any, x: jax.Array) -> Outputs:
        phi, tangent = jax.jvp(lambda body: features(body, x), (origin.body,), (shift,))
        return Outputs(tangent @ origin.head, phi)

    return outputs


def rows_by_image(features: Features, origin: Weights) -> Callable[[jax.Array, int | None], Any]:
    """J(x) of `linearised`: one image at a time, whose classes fill a CPU."""

    def image(x: jax.Array) -> Any:
        logits, pull = jax.vjp(lambda body: (features(body, x[None]) @ origin.head)[0], origin.body)
        return jax.vmap(pull)(jnp.eye(len(logits), dtype=logits.dtype))[0]

    return lambda x, per_pass: map_images(jax.vmap(image), x, 1)


def rows_by_layer(features: Features, origin: Weights) -> Callable[[jax.Array, int | None], Any]:
    """The same: per class one backward pass of all images, and for every layer one product of all images and classes.

    So an accelerator has few launches, and no convolution for a single image. It has no derivative by x.
    """

    def rows(x: jax.Array) -> Any:
        zeros = jax.tree.map(lambda leaf: jnp.zeros((len(x), *leaf.shape), leaf.dtype), origin.body)
        logits, pull = jax.vjp(lambda own: features(origin.body, x, own=own) @ origin.head, zeros)
        classes = jnp.eye(logits.shape[1], dtype=logits.dtype)
        return jax.vmap(lambda one: pull(jnp.broadcast_to(one, logits.shape))[0], out_axes=1)(classes)

    return lambda x, per_pass: map_images(rows, x, per_pass)


def moved(features: Features, origin: Weights) -> Callable[[Any, jax.Array], Outputs]:
    """The network itself, at a displaced body."""

    def outputs(shift: Any, x: jax.Array) -> Outputs:
        phi = features(jax.tree.map(jnp.add, origin.body, shift), x)
        return Outputs(jnp.zeros((len(x), origin.head.shape[1]), phi.dtype), phi)

    return outputs


def fixed(features: Features, origin: Weights) -> Callable[[Any, jax.Array], Outputs]:
    """The network's features as they are: only the final layer is fitted."""

    def outputs(shift: None, x: jax.Array) -> Outputs:
        phi = features(origin.body, x)
        return Outputs(jnp.zeros((len(x), origin.head.shape[1]), phi.dtype), phi)

    return outputs


def predict(out: Outputs, head: jax.Array) -> jax.Array:
    return out.offset + out.features @ head


def head_and_residual(problem: Problem, head: Any, out: Outputs, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Ω and the residual t + ΦΩ − Y: of the given final layer, or of the closed form Ω = Φᵀ(ΦΦᵀ + λI)⁻¹(Y − t)."""
    if head is not None:
        return head, predict(out, head) - y
    with _bits(problem):
        phi, target = out.features, y - out.offset
        if problem.float64:
            phi, target = (jax.lax.convert_element_type(a, jnp.float64) for a in (phi, target))
        dual = cho_solve(_final_layer_factor(phi, problem.l2), target)
        solution = phi.T @ dual, -problem.l2 * dual
        return jax.tree.map(lambda a: jax.lax.convert_element_type(a, y.dtype), solution)


def through_closed_form(
    problem: Problem, out: Outputs, y: jax.Array, head_cotangent: jax.Array
) -> tuple[Outputs, jax.Array]:
    """The cotangent of Ω*, pulled back to the distilled images' Outputs and labels at fixed δ."""
    with _bits(problem):
        _, pull = jax.vjp(lambda out, y: head_and_residual(problem, None, out, y)[0], out, y)
        return pull(head_cotangent)


def through_stationarity(
    problem: Problem, head: jax.Array, v: Weights, out: Outputs, tangent: Outputs, y: jax.Array
) -> tuple[Outputs, Outputs, jax.Array]:
    """Gradient of ⟨∂L/∂z, v⟩ by the distilled images' Outputs, by their change along v, and by the labels."""

    def product(out: Outputs, tangent: Outputs, y: jax.Array) -> jax.Array:
        # Terms that the distilled set does not enter are left out.
        omega, residual = head_and_residual(problem, None if v.head is None else head, out, y)
        change = predict(tangent, omega)
        return jnp.vdot(residual, change if v.head is None else change + out.features @ v.head)

    with _bits(problem):
        return jax.grad(product, argnums=(0, 1, 2))(out, tangent, y)


def outputs_of(problem: Problem, shift: Any) -> Outputs:
    """Outputs of the distilled images."""
    return map_images(partial(problem.outputs, shift), problem.x, problem.per_pass)


def along(problem: Problem, shift: Any, direction: Any) -> Outputs:
    """How the distilled images' Outputs change as δ moves along `direction`."""

    def change(x: jax.Array) -> Outputs:
        return jax.jvp(lambda shift: problem.outputs(shift, x), (shift,), (direction,))[1]

    return map_images(change, problem.x, problem.per_pass)


def pullback(problem: Problem, shift: Any, cotangent: Outputs, key: jax.Array | None = None) -> Any:
    """Outputs' cotangents pulled back to δ; with a key, the unbiased estimate from a random subset of the images."""
    x = problem.x
    if key is not None and problem.backward_images is not None:
        (x, cotangent), _ = draw(key, problem.backward_images, (x, cotangent))

    def pull(images: Any) -> Any:
        x, cotangent = images
        return jax.vjp(lambda shift: problem.outputs(shift, x), shift)[1](cotangent)[0]

    return sum_images(pull, (x, cotangent), problem.per_pass)


def draw(key: jax.Array, size: int, images: tuple[jax.Array, Any]) -> tuple[tuple[jax.Array, Any], jax.Array]:
    """A random subset of (x, cotangents), with cotangents scaled so that sums keep their mean -> (subset, index)."""
    x, cotangents = images
    index = jax.random.choice(key, len(x), (size,), replace=False)
    return (x[index], jax.tree.map(lambda leaf: leaf[index] * (len(x) / size), cotangents)), index


def gradient(problem: Problem, z: Weights, key: jax.Array | None = None) -> tuple[Weights, jax.Array]:
    """(gradient of L in its variables, L). By the envelope theorem, the closed form needs no derivative of Ω*."""
    out = outputs_of(problem, z.body)
    head, residual = head_and_residual(problem, z.head, out, problem.y)
    body = pullback(problem, z.body, Outputs(residual, residual @ head.T), key)
    body = jax.tree.map(lambda g, shift: g + problem.l2 / problem.body_weight * shift, body, z.body)
    free = None if z.head is None else out.features.T @ residual + problem.l2 * head
    penalty = problem.l2 * (_square(z.body) / problem.body_weight + _square(head))
    return Weights(body, free), (_square(residual) + penalty) / 2


def final_layer_alone(problem: Problem) -> Solved:
    """The body fixed: nothing to iterate, and no variable left whose Hessian could be inverted."""
    out = outputs_of(problem, None)
    head, _ = head_and_residual(problem, None, out, problem.y)
    nothing = partial(along, problem, None)
    return Solved(Weights(None, head), out, lambda cotangent: None, nothing, lambda g: (g, {}), {})


def exact(problem: Problem, make_dual: Callable[[Problem, Outputs], "Dual"]) -> Solved:
    """The minimiser of a linearised problem with the closed form, through the dual system: `dense` or `cg`."""
    s, l2 = problem.body_weight, problem.l2
    dual = make_dual(problem, outputs_of(problem, problem.start.body))
    alpha, info = dual.inverse(problem.y)
    shift = jax.tree.map(lambda leaf: s * leaf, dual.pull(alpha))
    out = Outputs(dual.push(shift), dual.features)
    head, residual = head_and_residual(problem, None, out, problem.y)

    def invert(g: Weights) -> tuple[Weights, Info]:
        # Woodbury: H = λ(Jᵀ(ΦΦᵀ + λI)⁻¹J + I/s), so H⁻¹ = (s I − s² Jᵀ(K + λI)⁻¹J) / λ.
        beta, info = dual.inverse(dual.push(g.body))
        v = jax.tree.map(lambda a, b: (s * a - s**2 * b) / l2, g.body, dual.pull(beta))
        return Weights(v, None), info | {"inverse_loss": -optax.tree.vdot(v, g.body) / 2}

    inner_loss = (_square(residual) + l2 * (_square(shift) / s + _square(head))) / 2
    change = lambda direction: Outputs(dual.push(direction), jnp.zeros_like(dual.features))  # noqa: E731
    pull = lambda cotangent: dual.pull(cotangent.offset)  # noqa: E731
    return Solved(Weights(shift, head), out, pull, change, invert, info | {"inner_loss": inner_loss})


class Dual(NamedTuple):
    features: jax.Array
    push: Callable[[Any], jax.Array]
    """δ ↦ J δ (n, C)"""
    pull: Callable[[jax.Array], Any]
    """α (n, C) ↦ Jᵀα"""
    inverse: Callable[[jax.Array], tuple[jax.Array, Info]]
    """b (n, C) ↦ (K + λI)⁻¹ b"""


def dense(problem: Problem, out: Outputs) -> Dual:
    """J as arrays (nC, …), one for every leaf of the body, and the Cholesky factor of K + λI."""
    shape, unknowns = problem.y.shape, problem.y.size
    leaves, body = jax.tree.flatten(problem.jacobian(problem.x, problem.per_pass))
    rows = [leaf.reshape(unknowns, -1) for leaf in leaves]
    final = out.features @ out.features.T + problem.l2 * jnp.eye(shape[0], dtype=problem.y.dtype)
    kernel = problem.body_weight * sum(leaf @ leaf.T for leaf in rows)
    kernel += jnp.kron(final, jnp.eye(shape[1], dtype=final.dtype))
    factor = cho_factor(kernel)

    def push(shift: Any) -> jax.Array:
        parts = zip(rows, jax.tree.leaves(shift), strict=True)
        return sum(leaf @ part.ravel() for leaf, part in parts).reshape(shape)

    def pull(alpha: jax.Array) -> Any:
        parts = ((alpha.ravel() @ leaf).reshape(whole.shape[2:]) for leaf, whole in zip(rows, leaves, strict=True))
        return jax.tree.unflatten(body, parts)

    def inverse(b: jax.Array) -> tuple[jax.Array, Info]:
        alpha = cho_solve(factor, b.reshape(-1))
        residual = optax.tree.norm(kernel @ alpha - b.reshape(-1)) / _not_zero(optax.tree.norm(b))
        return alpha.reshape(shape), {"residual": residual, "iterations": jnp.asarray(1)}

    return Dual(out.features, push, pull, inverse)


def cg(iterations: int, residual: float, problem: Problem, out: Outputs) -> Dual:
    """K + λI by products alone: conjugate gradients, preconditioned with (ΦΦᵀ + λI)⁻¹ ⊗ I.

    They end where no more than the part `residual` of the right-hand side is left, or after so many iterations. Unless
    `per_pass` limits the images in memory, what the products need of the network is computed once and kept.
    """
    zero = problem.start.body
    factor = _final_layer_factor(out.features, problem.l2)
    nothing = jnp.zeros_like(out.features)

    def push(shift: Any) -> jax.Array:
        return map_images(lambda x: problem.outputs(shift, x).offset, problem.x, problem.per_pass)

    def pull(alpha: jax.Array) -> Any:
        return pullback(problem, zero, Outputs(alpha, nothing))

    if problem.per_pass is None:
        _, push = jax.linearize(push, zero)
        transpose = jax.linear_transpose(push, zero)
        pull = lambda alpha: transpose(alpha)[0]  # noqa: E731

    def product(alpha: jax.Array) -> jax.Array:
        kernel = problem.body_weight * push(pull(alpha)) + out.features @ (out.features.T @ alpha)
        return kernel + problem.l2 * alpha

    solve = partial(_conjugate_gradients, product, partial(cho_solve, factor), iterations, residual)
    return Dual(out.features, push, pull, solve)


def _conjugate_gradients(
    product: Any, precondition: Any, iterations: int, part: float, b: jax.Array
) -> tuple[jax.Array, Info]:
    """At most `iterations` steps from zero; fewer where no more than that part of b is left, or its rounding error."""
    target = max(part, 4 * float(jnp.finfo(b.dtype).eps)) * optax.tree.norm(b)
    z = precondition(b)

    def wanted(state: Any) -> jax.Array:
        _, residual, _, _, done = state
        return (done < iterations) & (optax.tree.norm(residual) > target)

    def step(state: Any) -> Any:
        a, residual, direction, rz, done = state
        image = product(direction)
        length = rz / jnp.vdot(direction, image)
        a, residual = a + length * direction, residual - length * image
        z = precondition(residual)
        rz, old = jnp.vdot(residual, z), rz
        return a, residual, z + rz / old * direction, rz, done + 1

    start = jnp.zeros_like(b), b, z, jnp.vdot(b, z), jnp.asarray(0)
    a, residual, _, _, done = jax.lax.while_loop(wanted, step, start)
    return a, {"residual": optax.tree.norm(residual) / _not_zero(optax.tree.norm(b)), "iterations": done}


class Rates(NamedTuple):
    """What belongs to the two learning rates of `adam`."""

    inner: Any
    inverse: Any


def adam(problem: Problem, inner_steps: int, inverse_steps: int, rates: Rates, key: jax.Array) -> Solved:
    """The paper's way (Algorithm 1): Adam on L from the start, then Adam on ½vᵀHv − vᵀg (eq. 7).

    Truncated, hence biased; its time grows with the steps, its memory does not. `rates` are functions that choose a
    rate, given a function from a rate to the losses of one solve. The info has `inner_losses` and `inverse_losses`,
    each a pair (rate used, losses).
    """
    inner_key, inverse_key = jax.random.split(key)
    descend = partial(_descend, partial(gradient, problem), problem.start, inner_steps, inner_key)
    z: Weights = problem.start
    info: Info = {"iterations": jnp.asarray(inner_steps + inverse_steps)}
    if inner_steps:
        rate = rates.inner(lambda rate: descend(rate)[2])
        z, norms, losses = descend(rate)
        info |= {"inner_losses": (rate, losses), "inner_rate": rate}
        info |= {"inner_loss": losses[-1], "residual": norms[-1] / _not_zero(norms[0])}
    out = outputs_of(problem, z.body)
    head, _ = head_and_residual(problem, z.head, out, problem.y)

    def invert(g: Weights) -> tuple[Weights, Info]:
        def slope(v: Weights, key: jax.Array) -> tuple[Weights, jax.Array]:
            product = jax.jvp(lambda z: gradient(problem, z, key)[0], (z,), (v,))[1]
            return jax.tree.map(jnp.subtract, product, g), optax.tree.vdot(v, product) / 2 - optax.tree.vdot(v, g)

        zero = jax.tree.map(jnp.zeros_like, g)
        if not inverse_steps:
            return zero, {}
        descend = partial(_descend, slope, zero, inverse_steps, inverse_key)
        rate = rates.inverse(lambda rate: descend(rate)[2])
        v, _, losses = descend(rate)
        return v, {"inverse_losses": (rate, losses), "inverse_rate": rate, "inverse_loss": losses[-1]}

    pull, change = partial(pullback, problem, z.body), partial(along, problem, z.body)
    return Solved(Weights(z.body, head), out, pull, change, invert, info)


def _descend(slope: Any, start: Any, steps: int, key: jax.Array, rate: jax.Array) -> tuple[Any, jax.Array, jax.Array]:
    """Adam -> (end, norm of the gradient before every step, loss before every step)."""
    optimizer = optax.scale_by_adam()

    def step(state: Any, key: jax.Array) -> Any:
        z, moments = state
        grad, loss = slope(z, key)
        change, moments = optimizer.update(grad, moments)
        moved = jax.tree.map(lambda a, b: a - (rate * b).astype(a.dtype), z, change)
        return (moved, moments), (optax.tree.norm(grad), loss)

    (z, _), (norms, losses) = jax.lax.scan(step, (start, optimizer.init(start)), jax.random.split(key, steps))
    return z, norms, losses


def _bits(problem: Problem) -> Any:
    """The context in which the final layer is solved for, and in which that solve is differentiated in reverse."""
    return jax.enable_x64(True) if problem.float64 else nullcontext()


def _final_layer_factor(phi: jax.Array, l2: jax.Array | float) -> Any:
    return cho_factor(phi @ phi.T + l2 * jnp.eye(len(phi), dtype=phi.dtype))


def _square(tree: Any) -> jax.Array:
    return optax.tree.norm(tree, squared=True)


def _not_zero(value: jax.Array) -> jax.Array:
    return jnp.maximum(value, jnp.finfo(value.dtype).tiny)
