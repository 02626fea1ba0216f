"""
The channel layer of Django Channels over the bus of the cluster (the extra ``txsticky[channels]``).

::

    CHANNEL_LAYERS = {"default": {"BACKEND": "txsticky.channels.ChannelLayer"}}

Consumers of all workers send to each other, and to groups, with no Redis beside the cluster; with
``--bus redis://…`` on all machines.
"""

from __future__ import annotations

from .layer import ChannelLayer

__all__ = ["ChannelLayer"]
