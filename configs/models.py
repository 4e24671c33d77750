"""Model configs, from the tiny one that a laptop pretrains to DeepSeek-V3; `published` has those of the hub by name."""

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


# Dense models of the hub, each after its config.json: width, layers, heads, key heads, width of a head, hidden,
# vocabulary, tied.
_DENSE = {
  "Qwen/Qwen2.5-0.5B": (896, 24, 14, 2, 64, 4864, 151_936, True),
  "Qwen/Qwen2.5-1.5B": (1536, 28, 12, 2, 128, 8960, 151_936, True),
  "Qwen/Qwen2.5-7B": (3584, 28, 28, 4, 128, 18_944, 152_064, False),
  "Qwen/Qwen2.5-14B": (5120, 48, 40, 8, 128, 13_824, 152_064, False),
  "Qwen/Qwen2.5-32B": (5120, 64, 40, 8, 128, 27_648, 152_064, False),
  "Qwen/Qwen2.5-Math-1.5B": (1536, 28, 12, 2, 128, 8960, 151_936, True),
  "Qwen/Qwen2.5-Math-7B": (3584, 28, 28, 4, 128, 18_944, 152_064, False),
  "Qwen/Qwen3-0.6B": (1024, 28, 16, 8, 128, 3072, 151_936, True),
  "meta-llama/Llama-3.1-8B": (4096, 32, 32, 8, 128, 14_336, 128_256, False),
  "meta-llama/Llama-3.2-1B": (2048, 16, 32, 8, 64, 8192, 128_256, True),
  "meta-llama/Llama-3.3-70B-Instruct": (8192, 80, 64, 8, 128, 28_672, 128_256, False),
}
PUBLISHED = (*_DENSE, "Qwen/Qwen3-30B-A3B", "deepseek-ai/DeepSeek-V2-Lite", "deepseek-ai/DeepSeek-V3")


def published(name: str) -> config.Model:
  """A model of the hub by its name there, as hub.read_config reads its config.json; no download."""
  if name in _DENSE:
    width, layers, heads, kv_heads, head, hidden, vocab, tied = _DENSE[name]
    qwen3, llama = "Qwen3" in name, "llama" in name
    attention = config.GroupedQueryAttention(
      heads=heads, kv_heads=kv_heads, head=head, bias=not (qwen3 or llama), qk_norm=qwen3
    )
    shape = dict(vocab=vocab, width=width, layers=layers, hidden=hidden, attention=attention, tied=tied)
    if llama:
      scaling = config.Llama3Rope(factor=32.0 if "3.2" in name else 8.0, original_length=8192)
      return config.Model(**shape, rope_theta=500_000.0, rope_scaling=scaling, norm_epsilon=1e-5)
    return config.Model(
      **shape,
      rope_theta=10_000.0 if "Math" in name else 1_000_000.0,
      norm_epsilon=1e-5 if name.endswith(("-14B", "-32B")) else 1e-6,
    )
  others = {
    "Qwen/Qwen3-30B-A3B": qwen3_30b_a3b,
    "deepseek-ai/DeepSeek-V2-Lite": deepseek_v2_lite,
    "deepseek-ai/DeepSeek-V3": deepseek_v3_671b,
  }
  if name not in others:
    raise ValueError(f"there is no model {name!r} here; there are {', '.join(PUBLISHED)}.")
  return others[name]()


def qwen3_30b_a3b() -> config.Model:
  """Qwen3-30B-A3B: 128 experts, 8 of them active, none shared."""
  return config.Model(
    vocab=151_936,
    width=2048,
    layers=48,
    hidden=6144,
    attention=config.GroupedQueryAttention(heads=32, kv_heads=4, head=128, qk_norm=True),
    experts=config.Experts(routed=128, active=8, shared=0, hidden=768, scoring="softmax", bias_rate=0.0),
    rope_theta=1_000_000.0,
  )


def deepseek_v2_lite() -> config.Model:
  """DeepSeek-V2-Lite (DeepSeek-V2, appendix B)."""
  return config.Model(
    vocab=102_400,
    width=2048,
    layers=27,
    dense_layers=1,
    hidden=10_944,
    attention=config.LatentAttention(heads=16, latent_rank=512, nope_head=128, rope_head=64, value_head=128),
    experts=config.Experts(
      routed=64,
      active=6,
      shared=2,
      hidden=1408,
      scoring="softmax",
      normalize=False,
      bias_rate=0.0,
    ),
    rope_scaling=config.Yarn(factor=40, original_length=4096, mscale=0.707, mscale_all_dim=0.707),
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
    rope_scaling=config.Yarn(factor=40, original_length=4096),
  )
