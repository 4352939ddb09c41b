# SPDX-License-Identifier: MIT
"""What two engines must agree on to share blocks, as one digest.

vLLM's block hash names the tokens, and LoRA adapter, multimodal input and cache salt with them. It
does not name the model, nor how the bytes are made and laid out: that is what stands here. Whatever
can change a byte of a block changes the digest; engines that differ in it never meet.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SAMPLE_BYTES = 64 << 10
SAMPLES = 8
WEIGHT_FILES = ("*.safetensors", "*.bin", "*.pt", "*.gguf")


def digest(facts: Mapping[str, Any]) -> str:
    """32 hex digits of anything JSON can hold; the order of keys does not matter."""
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def weights_of(model: str) -> str:
    """What identifies the weights of a model folder: sizes and samples of its files' bytes.

    An empty text where there are no such files: a name from a hub, say.
    """
    files = sorted(p for pattern in WEIGHT_FILES for p in Path(model).glob(pattern))
    if not files:
        return ""
    state = hashlib.sha256()
    for path in files:
        size = path.stat().st_size
        state.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            for sample in range(SAMPLES):
                file.seek(max(size - SAMPLE_BYTES, 0) * sample // (SAMPLES - 1))
                state.update(file.read(SAMPLE_BYTES))
    return state.hexdigest()


def facts_of(vllm_config: Any, kv_cache_config: Any) -> dict[str, Any]:
    """What a block's bytes depend on, from vLLM's configuration. Reads samples of the weights.

    Where they are known a folder's name does not matter: it may differ from host to host.
    """
    import torch
    import vllm
    from vllm.platforms import current_platform

    model, cache = vllm_config.model_config, vllm_config.cache_config
    parallel = vllm_config.parallel_config
    weights = weights_of(model.model)
    hf_config = model.hf_config.to_dict()
    for name in ("_name_or_path", "transformers_version"):
        hf_config.pop(name, None)
    return {
        "model": weights or [model.model, model.revision],
        "load": [str(vllm_config.load_config.load_format), model.seed],
        "config": hf_config,
        "quantization": model.quantization,
        "dtype": str(model.dtype),
        "cache_dtype": str(cache.cache_dtype),
        "hash": [cache.prefix_caching_hash_algo, kv_cache_config.hash_block_size],
        "groups": [
            [
                type(group.kv_cache_spec).__name__,
                group.kv_cache_spec.block_size,
                group.kv_cache_spec.page_size_bytes,
                sorted(group.layer_names),
            ]
            for group in kv_cache_config.kv_cache_groups
        ],
        "layout": kv_cache_config.kv_cache_layout,
        "parallel": [
            parallel.tensor_parallel_size,
            parallel.pipeline_parallel_size,
            getattr(parallel, "prefill_context_parallel_size", 1),
            getattr(parallel, "decode_context_parallel_size", 1),
        ],
        # The attention kernel decides how tokens lie in a block, and is chosen by these.
        "platform": [
            current_platform.device_type,
            torch.backends.cpu.get_cpu_capability(),
            torch.cpu.get_capabilities().get("amx_tile", False),
            vllm.__version__,
        ],
    }
