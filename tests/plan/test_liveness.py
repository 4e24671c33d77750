"""Temporaries of functions whose memory can be told by hand."""

import jax
import jax.numpy as jnp

from r1jax.plan import liveness

SIZE = 4 * 64 * 64
X = jax.ShapeDtypeStruct((64, 64), jnp.float32)


def peak(function, *args):
  return liveness.temporaries(jax.make_jaxpr(function)(*args).jaxpr, {})


def test_an_elementwise_chain_stays_in_its_place_and_a_product_needs_one_of_its_own():
  assert peak(lambda x: jnp.sin(jnp.cos(jnp.exp(x))), X) == SIZE
  assert peak(lambda x: jnp.exp(x) @ jnp.cos(x), X) == 3 * SIZE
  assert peak(lambda x: jnp.sin(jnp.exp(x) @ x), X) == 2 * SIZE


def test_what_is_used_later_stays():
  assert peak(lambda x: jnp.exp(x) + jnp.sin(jnp.cos(x) @ x), X) == 3 * SIZE


def test_broadcasts_and_iotas_are_never_made():
  assert peak(lambda x: x + jnp.arange(64.0)[None] * 0 + jnp.ones((64, 64)), X) <= 2 * SIZE


def test_a_gradient_keeps_every_layer_and_remat_only_what_goes_from_one_to_the_next():
  weights = jax.ShapeDtypeStruct((8, 64, 64), jnp.float32)

  def loss(weights, x, wrap):
    layer = wrap(lambda x, w: jnp.sin(jnp.exp(jnp.cos(x @ w))))
    return jax.lax.scan(lambda x, w: (layer(x, w), None), x, weights)[0].sum()

  gradient = lambda wrap: jax.grad(lambda weights, x: loss(weights, x, wrap))
  kept, remat = (peak(gradient(wrap), weights, X) for wrap in (lambda f: f, jax.checkpoint))
  # With remat: the input of every layer and the weights' gradients, 8 each, and what one turn needs.
  assert 16 * SIZE <= remat <= 24 * SIZE
  assert kept >= remat + 8 * SIZE


def test_a_loop_works_in_its_carry():
  loop = lambda x: jax.lax.fori_loop(0, 7, lambda _, x: x @ x, jnp.exp(x))
  assert 2 * SIZE <= peak(loop, X) < 2 * SIZE + 64  # the carry, the product of one turn, and the counter
