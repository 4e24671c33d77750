"""Model configs, from the tiny one that a laptop pretrains to DeepSeek-V3."""

from r1jax import config


def tiny(vocab: int = 512) -> config.Model:
  """DeepSeek-V3's architecture at about a million weights, laid out for a CPU."""
  return config.Model(
    vocab=vocab,
    width=128,
    layers=3,
    dense_layers=1,
    hidden=384,
    attention=config.LatentAttention(heads=4, latent_rank=48, nope_head=16, rope_head=16, value_head=32),
    experts=config.Experts(routed=8, active=2, shared=1, hidden=96),
    rope_theta=100.0,  # rows of a hundred tokens: fast-turning pairs tell neighbours apart
    activations="float32",
    unroll=True,
    remat="none",
    head_chunk=8192,
  )


def student_small(vocab: int = 512) -> config.Model:
  """A dense model of about 0.15M weights in the manner of Qwen2.5: biases on query, key and value."""
  attention = config.GroupedQueryAttention(heads=4, kv_heads=2, head=16, bias=True)
  return _student(vocab, width=64, hidden=128, attention=attention)


def student_large(vocab: int = 512) -> config.Model:
  """A dense model of about 0.5M weights in the manner of Llama 3.2: no biases."""
  attention = config.GroupedQueryAttention(heads=4, kv_heads=2, head=32)
  return _student(vocab, width=128, hidden=256, attention=attention)


def _student(vocab, **fields):
  """A distillation student, laid out for a CPU as `tiny`; its head is its embedding, as in the small ones of both."""
  return config.Model(
    vocab=vocab,
    layers=3,
    rope_theta=100.0,
    tied=True,
    activations="float32",
    unroll=True,
    remat="none",
    head_chunk=8192,
    **fields,
  )


def deepseek_v3_671b() -> config.Model:
  """DeepSeek-V3 (report, section 4.2), without the multi-token prediction layer."""
  return config.Model(
    vocab=129_280,
    width=7168,
    layers=61,
    dense_layers=3,
    hidden=18_432,
    attention=config.LatentAttention(
      heads=128, query_rank=1536, latent_rank=512, nope_head=128, rope_head=64, value_head=128
    ),
    experts=config.Experts(routed=256, active=8, shared=1, hidden=2048, groups=8, active_groups=4, route_scale=2.5),
    yarn=config.Yarn(factor=40, original_length=4096),
  )
