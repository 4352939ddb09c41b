# SPDX-License-Identifier: MIT
"""One life of a vLLM engine on the CPU: ``python engine.py`` reads a JSON job from its input.

{"model": folder, "prompts": [[token, …], …], "connector": extra_config or null, "engine": {…}}

The line of its output that begins with ANSWERS is JSON: for each prompt its answer's tokens, how
many of the prompt's tokens were found in a cache, and the seconds it took.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

os.environ.update(
    VLLM_CPU_KVCACHE_SPACE="1",
    VLLM_TARGET_DEVICE="cpu",
    VLLM_NO_USAGE_STATS="1",
    HF_HUB_OFFLINE="1",
)


def run(job: dict[str, Any]) -> list[dict[str, Any]]:
    from vllm import LLM, SamplingParams
    from vllm.config import KVTransferConfig

    transfer = None
    if job["connector"] is not None:
        transfer = KVTransferConfig(
            kv_connector="SLDMKVCacheConnector",
            kv_connector_module_path="sldmkvcachestore.vllm_connector",
            kv_role="kv_both",
            kv_load_failure_policy="recompute",
            kv_connector_extra_config=job["connector"],
        )
    options = {
        "dtype": "float32",  # cold and warm logits are comparable
        "block_size": 32,
        "max_model_len": 2048,
        "enforce_eager": True,
        "skip_tokenizer_init": True,
        "enable_prefix_caching": True,
        **job.get("engine", {}),
    }
    llm = LLM(model=job["model"], kv_transfer_config=transfer, **options)
    sampling = SamplingParams(temperature=0, max_tokens=16, detokenize=False)
    # The first request compiles the sampler; it is shorter than one block.
    llm.generate([{"prompt_token_ids": [1] * 20}], sampling, use_tqdm=False)
    answers = []
    for prompt in job["prompts"]:
        began = time.perf_counter()
        (output,) = llm.generate([{"prompt_token_ids": prompt}], sampling, use_tqdm=False)
        answers.append(
            {
                "tokens": list(output.outputs[0].token_ids),
                "cached": output.num_cached_tokens,
                "seconds": time.perf_counter() - began,
            }
        )
    return answers


if __name__ == "__main__":
    result = run(json.load(sys.stdin))
    print("\nANSWERS", json.dumps(result), flush=True)
