``txsticky.channels.ChannelLayer`` is a channel layer for Django Channels over the cluster's own bus, with no Redis beside it (the extra ``txsticky[channels]``).
