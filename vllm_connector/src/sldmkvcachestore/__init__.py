# SPDX-License-Identifier: MIT
"""Client of SLDMKVCacheStore, a durable store for LLM KV-cache blocks.

``client``     KVCacheClient: store, retrieve, delete, list, match
``transport``  bulk values between sockets and memory, on redis-py connections
``tensors``    arrays and tensors as byte views

Only redis-py is required; numpy and torch are used when the caller brings them.
"""

from __future__ import annotations

from .client import BlockInfo, KVCacheClient

__version__ = "0.1.0"
__all__ = ["BlockInfo", "KVCacheClient", "__version__"]
